"""How long calls of an exported model take, and how large it is: `python -m benchmarks.latency`.

SANTM of 32 units, memory 32 x 32, access rate 0.25, one feature, ten classes, as `benchmarks.step` has it,
exported with and without XLA. Each case loads the SavedModel alone in a fresh process and calls it 30 x
--repeats times, one call after the other; p50 and p99 are the medians of theirs over the processes.
"""

import json
import os
import resource
import statistics
import sys
import tempfile
import time

from benchmarks import harness, table

BATCHES, LENGTHS = (1, 64), (64, 784)
FOLDER = "SANTM_EXPORTS"  # the variable that tells a case's process where the exports are
EXPORTS = {"plain": False, "XLA": True}


def export(folder):
    """Writes the exports; returns their sizes in KiB."""
    from benchmarks.step import model_and_data
    from santm_tf.export import export

    model, _, _ = model_and_data(access_rate=0.25, access="uniform")
    sizes = {}
    for name, jit_compile in EXPORTS.items():
        path = os.path.join(folder, name)
        export(model, path, jit_compile)
        sizes[name] = sum(os.path.getsize(os.path.join(at, file))
                          for at, _, files in os.walk(path) for file in files) / 1024
    return sizes


def sequences(signatures, batch, steps):
    """A call of whole sequences."""
    import tensorflow as tf

    x, lengths = tf.random.uniform([batch, steps, 1]), tf.fill([batch], steps)
    return lambda: signatures["serving_default"](inputs=x, lengths=lengths)["outputs"].numpy()


def one_step(signatures, batch):
    """A call of one step of streams, which goes on from the last one's state."""
    import tensorflow as tf

    state, x = dict(signatures["initial_state"](batch=tf.constant(batch))), tf.random.uniform([batch, 1])

    def call():
        state.update(signatures["step"](inputs=x, **state))
        state.pop("outputs").numpy()

    return call


CASES = {f"step, B={batch}": ("plain", one_step, batch) for batch in BATCHES}
CASES |= {f"sequences{', XLA' * jit}, B={batch}, T={steps}": (name, sequences, batch, steps)
          for name, jit in EXPORTS.items() for batch in BATCHES for steps in LENGTHS}


def one(name, make, *sizes, calls):
    """The figures of a case."""
    import tensorflow as tf

    start = time.perf_counter()
    loaded = tf.saved_model.load(os.path.join(os.environ[FOLDER], name))
    load = time.perf_counter() - start
    call, seconds = make(loaded.signatures, *sizes), []
    for _ in range(calls + 1):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    assert "santm_tf" not in sys.modules
    first, *seconds = seconds
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return {"p50, ms": 1e3 * cuts[49], "p99, ms": 1e3 * cuts[98], "first call, s": first, "loading, s": load,
            "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main():
    chosen = harness.options("latency", CASES)
    if chosen.case:
        print(json.dumps(one(*CASES[chosen.case], calls=30 * chosen.repeats)))
        return
    with tempfile.TemporaryDirectory() as folder:
        sizes = export(folder)
        os.environ[FOLDER] = folder
        runs = {case: [] for case in chosen.only}
        for _ in range(chosen.rounds):
            for case in chosen.only:
                runs[case].append(harness.fresh("latency", case, chosen.repeats))
    rows = {case: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for case, found in runs.items()}
    for case in rows:
        rows[case]["export, KiB"] = sizes[CASES[case][0]]
    columns = next(iter(rows.values()))
    table.write("latency", "Calls of an exported SANTM, one after the other, on the machine at hand; medians "
                "over fresh processes.", "case", rows, {column: column for column in columns}, table.rounded)


if __name__ == "__main__":
    main()
