"""FLOPs and accuracy on permuted MNIST: SANTM at a low access rate against the NTM of the same sizes.

`python -m benchmarks.saving --data_dir=../shared/data/mnist.npz`: one pixel a step, 784 steps, 20,000
training images, three seeds, into `runs/saving/`, where what is there already is taken as it is. FLOPs
are those of the forward pass of one sequence by the models' formulas, at the rates measured on the
test split.
"""

import statistics

from benchmarks import table, trained
from santm_tf.analysis import cost
from santm_tf.baselines import ntm

STEPS, UNITS, SLOTS = 784, 32, 32
TASK = ["--task=pmnist", "--train_size=20000", f"--units={UNITS}",
        f"--memory_slots={SLOTS}", f"--slot_width={SLOTS}", "--memory_horizon=8", "--epochs=8",
        "--batch_size=128", "--learning_rate=0.008"]
MODELS = {
    "ntm": ["--model=ntm"],
    "santm": ["--segment_length=16", "--initial_access_rate=0.05", "--access_rate=0.02"],
}
NTM = ntm.cost(1, UNITS, STEPS).flops / 1e6
COLUMNS = {"accuracy": "test accuracy", "access_rate": "access rate", "boundary_rate": "boundary rate",
           "mflops": "MFLOPs a sequence", "saved": "FLOPs saved", "seconds": "seconds a run"}


def mflops(line):
    """The forward pass of one sequence, at a run's rates."""
    if line["model"] == "ntm":
        return NTM
    return cost.santm(1, UNITS, STEPS, line["access_rate"], line["test_boundary_rate"]).flops / 1e6


def main():
    options = trained.options("saving", MODELS, ("../shared/data/mnist.npz", "mnist.npz, or its folder"))
    rows = table.read("saving")
    for name in options.only:
        lines = [trained.result(None, f"runs/saving/{name}-{seed}", *TASK, *MODELS[name], f"--seed={seed}",
                                f"--data_dir={options.data_dir}") for seed in range(options.seeds)]
        flops = statistics.mean(mflops(line) for line in lines)
        rows[name] = {
            "accuracy": trained.spread([line["test_accuracy"] for line in lines]),
            "access_rate": statistics.mean(line["access_rate"] for line in lines),
            "boundary_rate": statistics.mean(line.get("test_boundary_rate", 1.0) for line in lines),
            "mflops": flops, "saved": f"{1 - flops / NTM:.0%}",
            "seconds": statistics.median(line["seconds"] for line in lines), "runs": lines}
        table.write("saving", f"Permuted MNIST in {STEPS} steps of one pixel, {UNITS} units, memory "
                    f"{SLOTS} x {SLOTS}; mean ± deviation over {options.seeds} seeds.", "model",
                    {name: rows[name] for name in MODELS if name in rows}, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
