"""Does it pay that the input decides when the memory is accessed? In `selective_copy` tokens are anywhere.

`python -m benchmarks.adaptive` trains into `runs/adaptive/`, where what is there already is taken as it is;
`--only=uniform` trains some, and keeps the other rows of the table. Sequences have 8 tokens among 64 steps,
at steps of their own, and then 8 steps at which they are asked for. The rate leaves 16 accesses of the 72.
"""

import statistics

import numpy as np

from benchmarks import trained
from santm_tf.analysis.trace import inputs_of, layer_of, trace

SYMBOLS, LENGTH = 8, 64
STEPS = LENGTH + SYMBOLS
FLAGS = ["--task=selective_copy", f"--symbols={SYMBOLS}", f"--length={LENGTH}", "--memory=key_value",
         "--recall=read", "--read_heads=2", "--top_k=16", "--memory_slots=128", "--slot_width=16",
         "--segment_length=1", "--boundaries=fixed", "--memory_horizon=2", "--epochs=30",
         "--steps_per_epoch=100", "--batch_size=32", "--learning_rate=0.005", "--clip_norm=1.0"]
RATE = "--access_rate=0.25"
WAITS = "--mask_below=0.03"  # the rate falls once the task is learned
CASES = {"full access": [], "adaptive": ["--mask=adaptive", RATE, WAITS],
         "ablation": ["--mask=ablation", RATE, WAITS], "uniform": ["--mask=uniform", RATE]}
COLUMNS = {"accuracy": "accuracy", "rate": "access rate", "tokens": "of the tokens",
           "asked": "of the answers", "blanks": "of the blanks", "seeds": "seeds", "seconds": "seconds a run"}


def case(name, seed):
    """The last line of a run; of the tokens, answers and blanks of test sequences the shares accessed."""
    workdir = f"runs/adaptive/{name.replace(' ', '_')}-{seed}"
    result = trained.result(None, workdir, *FLAGS, *CASES[name], f"--seed={seed}")
    task, model = trained.load(workdir)
    x = next(iter(task.test))[0]
    seen = trace(layer_of(model), *inputs_of(model, x))
    accessed = np.zeros(x.shape, bool)
    accessed[:, seen.steps] = seen.gates > 0
    kinds = np.where(np.arange(STEPS) >= LENGTH, 2, x.numpy() > 0)  # 0 a blank, 1 a token, 2 an answer
    return result, [float(accessed[kinds == kind].mean()) for kind in range(3)]


def row(name, seeds):
    """A row of the table."""
    found = [case(name, seed) for seed in range(seeds)]
    blanks, tokens, asked = zip(*(shares for _, shares in found), strict=True)
    accuracies = [result["test_accuracy"] for result, _ in found]
    shares = {"tokens": tokens, "asked": asked, "blanks": blanks,
              "rate": [result["access_rate"] for result, _ in found]}
    return {"accuracy": trained.spread(accuracies), "accuracies": accuracies, "seeds": seeds,
            "seconds": statistics.median(result["seconds"] for result, _ in found),
            **{key: trained.spread(values) for key, values in shares.items()}}


def main():
    title = "Accuracy of the eight tokens, and which steps access the memory: mean ± deviation over seeds."
    trained.fill("adaptive", trained.options("adaptive", CASES), CASES, row, title, "access", COLUMNS)


if __name__ == "__main__":
    main()
