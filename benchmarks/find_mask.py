"""Does a trained mask find the steps that matter? In `copy_memory` those are the first ten and the last ten.

`python -m benchmarks.find_mask` trains into `runs/find_mask/`, where what is there already is taken as it is;
`--only="ablation, 20"` trains some, and keeps the other rows of the table. Sequences have 50 steps, a delay
of 30. Full access is one run a seed; the masks leave 40 steps, twice as many as matter, or 20.
"""

import statistics

import numpy as np

from benchmarks import trained
from santm_tf.analysis.trace import layer_of

DELAY, SYMBOLS = 30, 10
STEPS = DELAY + 2 * SYMBOLS
FLAGS = ["--task=copy_memory", f"--delay={DELAY}", "--memory=key_value", "--recall=read", "--read_heads=2",
         "--top_k=16", "--memory_slots=64", "--slot_width=16", "--segment_length=1", "--boundaries=fixed",
         "--memory_horizon=10", "--epochs=80", "--steps_per_epoch=100", "--batch_size=32",
         "--learning_rate=0.005", "--schedule=constant", "--clip_norm=1.0"]
MASKS = "ablation", "learned", "hard_concrete", "uniform", "random"
CASES = {"full access": (STEPS, ["--mask=uniform"])} | {
    f"{mask}, {left}": (left, [f"--mask={mask}"]) for left in (40, 20) for mask in MASKS}
WAITING = "ablation", "learned", "hard_concrete"  # whose rate falls, once the task is learned
COLUMNS = {"accuracy": "accuracy", "first": "of the first ten", "last": "of the last ten", "others": "others",
           "seeds": "seeds", "seconds": "seconds a run"}


def case(name, seed):
    """The last line of a run, and which steps its mask holds."""
    left, given = CASES[name]
    waits = ["--mask_below=0.05"] * name.startswith(WAITING)
    workdir = trained.folder("find_mask", name, seed)
    result = trained.result(None, workdir, *FLAGS, *given, *waits, f"--access_rate={left / STEPS:.6f}",
                            f"--seed={seed}")
    _, model = trained.load(workdir)
    return result, np.flatnonzero(layer_of(model).access.openings().numpy() > 0)


def row(name, seeds):
    """A row of the table."""
    found = [case(name, seed) for seed in range(seeds)]
    first = [int((on < SYMBOLS).sum()) for _, on in found]
    last = [int((on >= STEPS - SYMBOLS).sum()) for _, on in found]
    others = [len(on) - a - b for (_, on), a, b in zip(found, first, last, strict=True)]
    accuracies = [result["test_accuracy"] for result, _ in found]
    return {"accuracy": trained.spread(accuracies), "accuracies": accuracies, "steps": [
        on.tolist() for _, on in found], **{key: ", ".join(map(str, values)) for key, values in (
            ("first", first), ("last", last), ("others", others))},
        "seeds": seeds, "seconds": statistics.median(result["seconds"] for result, _ in found)}


def main():
    title = ("Accuracy of the ten symbols, mean ± deviation over seeds, and how many of which steps the mask "
             "of each seed holds.")
    trained.fill("find_mask", trained.options("find_mask", CASES), CASES, row, title, "mask, steps left",
                 COLUMNS)


if __name__ == "__main__":
    main()
