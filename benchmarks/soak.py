"""Long trainings at hard settings: `python -m benchmarks.soak --steps=100000`.

Each memory is trained in a process of its own, from sharp weights and at a high learning rate, in float32 and
in mixed float16. No step gives NaN; or the training stops and says so, and goes on from its last good
checkpoint at a tenth of its rate. The process' memory and open files stay as they are. `--folder` keeps the
trainings, from whose checkpoints the same command goes on.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

from benchmarks import table

SIZES = ["--memory_slots=8", "--slot_width=8"]
SANTM = [*SIZES, "--attention_heads=2", "--locality=2", "--access_rate=0.5",
         "--initial_access_rate=0.5"]
MODELS = {"santm, dense": SANTM, "santm, sparse": [*SANTM, "--memory=sparse", "--top_k=4"],
          "santm, key_value": [*SANTM, "--memory=key_value", "--top_k=4"],
          **{name: [f"--model={name}", *SIZES] for name in ("ntm", "uw_ntm", "cuw_ntm")},
          "drr_lstm": ["--model=drr_lstm"]}
# On a CPU XLA takes minutes to compile half precision.
POLICIES = {"float32": [], "mixed_float16": ["--nojit_compile"]}
CASES = {f"{name}, {policy}": ([*MODELS[name], *POLICIES[policy]], policy)
         for name, policy in itertools.product(MODELS, POLICIES)}
EPOCH = 1000  # steps
RUN = ["--task=adding", "--length=10", "--batch_size=8", "--units=8", f"--steps_per_epoch={EPOCH}",
       "--schedule=constant", "--clip_norm=inf", "--checkpoint_minutes=0.2", "--resume"]
SHARP = {"float32": 10.0, "mixed_float16": 2.0}  # times the weights of the start; 3 times overflow
RATE, LEAST = 1.0, 1e-6
EVERY, WARM = 2.0, 0.4  # seconds between two looks; the share of them that is left out
COLUMNS = {"steps": "steps", "stops": "stops that said so", "rate": "last rate", "loss": "last loss",
           "not_finite": "numbers that are not finite", "rss": "memory, MiB",
           "slope": "change in 10,000 steps, MiB", "files": "change of open files"}


class Watch(threading.Thread):
    """Looks at this process' memory and open files, now and then."""

    def __init__(self, done):
        super().__init__(daemon=True)
        self._done, self.looks = done, []

    def run(self):
        while True:
            time.sleep(EVERY)
            with open("/proc/self/statm") as file:
                pages = int(file.read().split()[1])
            files = len(os.listdir("/proc/self/fd"))
            self.looks.append((self._done(), pages * os.sysconf("SC_PAGE_SIZE") / 2**20, files))

    def figures(self):
        """Of the looks after a warm-up: the last memory, its slope, how far the open files went."""
        looks = np.array(self.looks)
        looks = looks[looks[:, 0] < looks[-1, 0]]  # the test after the last step is traced anew
        looks = looks[int(WARM * len(looks)):]
        if len(np.unique(looks[:, 0])) < 3:
            return {}
        slope = 1e4 * np.polyfit(looks[:, 0], looks[:, 1], 1)[0]
        return {"rss": float(np.median(looks[-5:, 1])), "slope": float(slope),
                "files": int(np.ptp(looks[:, 2]))}


def soak(case, folder, steps):
    """The figures of one case, trained in this process to so many steps or until it is stopped."""
    from santm_tf.keras import keras
    from santm_tf.training import callbacks, commands, fit
    from santm_tf.training.board import Board

    flags, policy = CASES[case]
    keras.mixed_precision.set_global_policy(policy)
    Board._views = lambda board: ()
    compiled, after, done = fit.compiled, callbacks.StopAfter.on_train_batch_end, itertools.count(1)
    taken = [0]

    def sharp(*given):
        model = compiled(*given)
        for weight in model.trainable_weights:
            weight.assign(SHARP[policy] * weight)
        return model

    def counted(stop, batch, logs=None):
        taken[0] = next(done)
        after(stop, batch, logs)

    fit.compiled, callbacks.StopAfter.on_train_batch_end = sharp, counted
    watch, rate, stops = Watch(lambda: taken[0]), RATE, 0
    watch.start()
    while True:
        code, said = _said(commands.train, ["soak", *RUN, *flags, f"--workdir={folder}",
                                            f"--epochs={steps // EPOCH}", f"--learning_rate={rate:g}"])
        if code == 0:
            break
        if "lower --learning_rate" not in said or rate <= LEAST:
            raise SystemExit(said)
        stops, rate = stops + 1, rate / 10
    with open(os.path.join(folder, "metrics.json")) as file:
        epochs = json.load(file)["epochs"]
    return {"steps": EPOCH * len(epochs), "stops": stops, "rate": rate, "loss": epochs[-1]["loss"],
            "not_finite": not_finite(folder, epochs), **watch.figures()}


def _said(program, argv):
    """A program's exit code, and its last line on standard error."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        try:
            program(argv)
            code = 0
        except SystemExit as stop:
            code = stop.code
    return code, said.getvalue().strip().split("\n")[-1]


def not_finite(folder, epochs):
    """How many numbers of a run's figures, and of all that it saved, are not finite."""
    import tensorflow as tf

    held = [np.array([value for figures in epochs for value in figures.values()], np.float64)]
    for path in tf.io.gfile.glob(os.path.join(folder, "*", "ckpt-*.index")):
        reader = tf.train.load_checkpoint(path.removesuffix(".index"))
        held += [reader.get_tensor(name) for name, dtype in reader.get_variable_to_dtype_map().items()
                 if dtype.is_floating]
    return int(sum(np.sum(~np.isfinite(numbers.astype(np.float64))) for numbers in held))


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak")
    parser.add_argument("--steps", type=int, default=100_000, help="of all cases together")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no further case begins")
    parser.add_argument("--only", default=";".join(CASES), help=f"of {'; '.join(CASES)}")
    parser.add_argument("--folder", help="keeps the trainings (default: they go)")
    parser.add_argument("--case", choices=CASES, help="train one case here, print its JSON")
    chosen = parser.parse_args()
    if chosen.case:
        print(json.dumps(soak(chosen.case, chosen.folder, chosen.steps)))
        return
    names, begun = chosen.only.split(";"), time.monotonic()
    each = max(1, round(chosen.steps / len(names) / EPOCH)) * EPOCH
    with contextlib.ExitStack() as stack:
        top = chosen.folder or stack.enter_context(tempfile.TemporaryDirectory())
        for name in names:
            if time.monotonic() - begun > 60 * chosen.minutes:
                break
            folder = os.path.join(top, name.replace(", ", "-"))
            found = subprocess.run([sys.executable, "-m", "benchmarks.soak", f"--case={name}",
                                    f"--folder={folder}", f"--steps={each}"],
                                   stdout=subprocess.PIPE, check=True, text=True)
            _write({**table.read("soak"), name: json.loads(found.stdout.strip().split("\n")[-1])})


def _write(rows):
    steps = sum(row["steps"] for row in rows.values())
    table.write("soak", f"{steps:,} steps of training from weights {SHARP['float32']:g} times as large "
                f"({SHARP['mixed_float16']:g} in mixed float16), at a learning rate of {RATE:g}, nothing "
                "clipped.", "trained", rows, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
