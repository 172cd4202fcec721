"""A step's seconds and memory over the number of slots: dense, sparse, and a sparse memory of PyTorch.

`python -m benchmarks.memory`: a SANTM of 32 units with N slots of width 32 that is accessed at every step,
`memory="dense"` against `memory="sparse"` with 4 slots a head, and against SAM of the package `dnc`
(`benchmarks.peer_memory`) of the same sizes. B=1, T=100, 8 numbers in and out a step. A train step is
forward, backward and Adam. Each case runs in fresh processes; `--only="train, sparse;train, peer"` and
`--slots="1024;16384"` run some and keep the others as they were, `--only=` writes table and figure anew.

MiB are the most that the process held during a step, less what it held before the model was made and after
one of 32 slots had made a step. The step is not the first, which compiles; but what compiling leaves behind
counts, which is most of it where N is small. (Read in /proc: on Linux only.)

A case is not run if it would take more memory than is free, or, dense, more than a minute a step.
"~" marks what the line through its last two sizes says instead, of seconds log-log.
"""

import ctypes
import gc
import json
import math
import os
import re
import statistics
import sys
import time

from benchmarks import harness, table

STEPS, FEATURES, UNITS, WIDTH, TOP_K = 100, 8, 32, 32, 4
SLOTS = 32, 1024, 16384, 65536, 262144, 1048576
PHASES, KINDS = ("train", "inference"), ("dense", "sparse", "peer")
CASES = [f"{phase}, {kind}" for phase in PHASES for kind in KINDS]
MOST_SECONDS, GROWTH_FROM = 60, 1024
COLUMNS = {**{f"{kind}_seconds": f"{kind}, seconds" for kind in KINDS},
           "to_dense": "dense / sparse", "to_peer": "peer / sparse",
           "growth": f"sparse / sparse at N={GROWTH_FROM}",
           **{f"{kind}_mib": f"{kind}, MiB" for kind in KINDS}}


def _santm(phase, kind, slots):
    """`(step, count of weights)` of a model."""
    import santm_tf  # noqa: I001
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layer = santm_tf.SANTM(
        UNITS, memory_slots=slots, slot_width=WIDTH, memory=kind, memory_init="constant", recall="read",
        return_sequences=True, access_rate=1.0, mask_period=STEPS, segment_length=1.0,
        boundary_penalty=0.0, **({"top_k": TOP_K} if kind == "sparse" else {}))
    # The batch is fixed: one whose size is unknown is cut in slices, here one of them empty.
    model = tf.keras.Sequential([tf.keras.Input([STEPS, FEATURES], batch_size=1), layer,
                                 tf.keras.layers.Dense(FEATURES)])
    model.compile(tf.keras.optimizers.Adam(1e-5), tf.keras.losses.MeanSquaredError())
    x, y = (tf.random.stateless_normal([1, STEPS, FEATURES], [0, n]) for n in range(2))
    if phase == "train":
        data = iter(tf.data.Dataset.from_tensors((x, y)).repeat())
        model.make_train_function()
        train = model.train_function
        return lambda: float(train(data)["loss"]), model.count_params()
    data = iter(tf.data.Dataset.from_tensors((x,)).repeat())
    model.make_predict_function()
    predict = model.predict_function
    return lambda: predict(data).numpy(), model.count_params()


def _peer(phase, _, slots):
    import torch

    from benchmarks.peer_memory import sam

    torch.manual_seed(0)
    model = sam(FEATURES, UNITS, slots, WIDTH, TOP_K)
    x, y = torch.randn(2, 1, STEPS, FEATURES).unbind()
    optimizer = torch.optim.Adam(model.parameters(), 1e-5)

    def train():
        optimizer.zero_grad()
        loss = ((model(x)[0] - y) ** 2).mean()
        loss.backward()
        optimizer.step()

    @torch.no_grad()
    def inference():
        model(x)

    return {"train": train, "inference": inference}[phase], sum(p.numel() for p in model.parameters())


def one(case, repeats):
    """Runs a case, `"PHASE, KIND: N"`, here."""
    case, slots = case.split(": ")
    phase, kind = case.split(", ")
    with open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")  # if memory ends after all, it is this process that does
    make = _peer if kind == "peer" else _santm
    make(phase, kind, SLOTS[0])[0]()  # loads what a step of any size needs
    _release()
    before = _held("VmRSS")
    step, parameters = make(phase, kind, int(slots))
    step()
    _release()
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak is from now on
    start = time.perf_counter()
    step()
    seconds, mib = time.perf_counter() - start, max(_held("VmHWM") - before, 0.1)  # for the figure
    repeats = max(1, min(repeats, int(MOST_SECONDS / seconds)))
    return {"seconds": harness.measure(step, repeats, warmup=0), "mib": mib, "parameters": parameters}


def _release():
    """Gives back to the system what was freed."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _held(name):
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(name)) / 1024


def _free():
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) / 1024


def foreseen(slots, measured):
    """Seconds and MiB at so many slots, or none, from those at fewer.

    The line through the last two, of seconds log-log, but never one that falls.

    >>> foreseen(64, {16: {"seconds": 1.0, "mib": 1.0}, 32: {"seconds": 3.0, "mib": 2.0}})
    {'seconds': 9.0, 'mib': 4.0}
    """
    known = sorted(n for n in measured if n < slots)
    if len(known) < 2:
        return None
    low, high = known[-2:]
    before, last = measured[low], measured[high]
    growth = max(1.0, last["seconds"] / before["seconds"]) ** (math.log(slots / high) / math.log(high / low))
    more = max(0.0, last["mib"] - before["mib"]) * (slots - high) / (high - low)
    return {"seconds": last["seconds"] * growth, "mib": last["mib"] + more}


def label(phase, slots):
    return f"{phase}, N={slots}"


def of_kind(rows, phase, kind):
    """`{slots: entry}` of a kind of memory."""
    entries = {slots: rows.get(label(phase, slots), {}).get(kind) for slots in SLOTS}
    return {slots: entry for slots, entry in entries.items() if entry}


def run(rows, case, slots, repeats):
    """Puts one more measurement of a case into the rows, or why there is none. False: do not try again."""
    phase, kind = case.split(", ")
    row = rows.setdefault(label(phase, slots), {})
    runs = row.get(kind, {}).get("runs", [])
    if not runs:
        expected = foreseen(slots, {n: v for n, v in of_kind(rows, phase, kind).items() if "runs" in v})
        fits = not expected or expected["mib"] < _free()
        if not fits or kind == "dense" and expected and expected["seconds"] > MOST_SECONDS:
            row[kind] = {**expected, "fits": fits}
            return False
    try:
        runs = [*runs, harness.fresh("memory", f"{case}: {slots}", repeats)]
    except RuntimeError as error:
        print(error, file=sys.stderr)
        if not runs:
            named = re.findall(r"^\S*Error\b.*", str(error), re.MULTILINE)
            row[kind] = {"failed": named[-1] if named else "killed, or see what was printed"}
        return True  # it may have been for want of memory that another process had
    seconds = [found["seconds"] for found in runs]
    row[kind] = {"seconds": statistics.median(seconds), "fastest": min(seconds), "slowest": max(seconds),
                 "mib": statistics.median(found["mib"] for found in runs),
                 "parameters": runs[0]["parameters"], "runs": runs}
    return True


def write(rows):
    shown = {}
    for phase in PHASES:
        base = rows.get(label(phase, GROWTH_FROM), {}).get("sparse", {})
        for slots in SLOTS:
            row = {kind: entry for kind, entry in rows.get(label(phase, slots), {}).items() if kind in KINDS}
            if not row:
                continue
            dense, sparse, peer = (row.get(kind, {}) for kind in KINDS)
            shown[label(phase, slots)] = {
                **row, "to_dense": ratio(dense, sparse), "to_peer": ratio(peer, sparse),
                "growth": ratio(sparse, base),
                **{f"{kind}_{key}": cell(entry, key) for kind, entry in row.items()
                   for key in ("seconds", "mib")}}
    table.write("memory", f"A step over N slots of width {WIDTH}, B=1, T={STEPS}: medians over "
                "fresh processes on the machine at hand; MiB at the most during a step, above those before "
                "the model; ~ is foreseen and not run.", "step", shown, COLUMNS)


def cell(entry, key):
    if "failed" in entry:
        return f"failed: {entry['failed'][:80]}" if key == "seconds" else ""
    if key == "mib" and not entry.get("fits", True):
        return f"does not fit: needs ~{entry['mib'] / 1024:.0f} GiB"
    return ("" if "runs" in entry else "~") + table.rounded(entry[key])


def ratio(a, b):
    """Of seconds."""
    if "seconds" not in a or "seconds" not in b:
        return ""
    return ("" if "runs" in a and "runs" in b else "~") + table.rounded(a["seconds"] / b["seconds"])


def draw(rows):
    """`docs/pictures/memory.png`: seconds and MiB over N; hollow, what was foreseen and not run."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(2, len(PHASES), figsize=(8, 6), sharex=True, sharey="row",
                                layout="constrained")
    names = {"dense": "dense", "sparse": "sparse", "peer": "SAM (dnc)"}
    for column, phase in enumerate(PHASES):
        axes[0, column].set_title(phase)
        for line, (key, unit) in enumerate((("seconds", "seconds a step"), ("mib", "MiB"))):
            axis = axes[line, column]
            for n, kind in enumerate(KINDS):
                points = [(slots, entry[key], "runs" in entry)
                          for slots, entry in of_kind(rows, phase, kind).items() if key in entry]
                run_ = [(slots, value) for slots, value, there in points if there]
                rest = [(slots, value) for slots, value, there in points if not there]
                axis.plot(*zip(*run_, strict=True) if run_ else ([], []), f"C{n}o-", label=names[kind])
                if rest:
                    axis.plot(*zip(*run_[-1:], *rest, strict=True), f"C{n}o--", markerfacecolor="none")
            axis.set_xscale("log", base=2)
            axis.set_yscale("log")
            if not column:
                axis.set_ylabel(unit)
    axes[0, 0].legend()
    figure.supxlabel("memory slots N")
    figure.savefig(os.path.join(table.PICTURES, "memory.png"), dpi=120)


def main():
    options = harness.options("memory", CASES, ("slots", SLOTS))
    if options.case:
        print(json.dumps(one(options.case, options.repeats)))
        return
    rows = table.read("memory")
    left = [(case, slots) for slots in options.sizes for case in options.only]
    for case, slots in left:
        phase, kind = case.split(", ")
        rows.get(label(phase, slots), {}).pop(kind, None)
    for _ in range(options.rounds):  # rounds outside, so that a slow minute strikes every case
        left = [(case, slots) for case, slots in left if run(rows, case, slots, options.repeats)]
        write(rows)
    write(rows)
    draw(rows)


if __name__ == "__main__":
    main()
