"""Multi-query associative recall: learned with 64 pairs in 256 steps, run with 1,024 pairs in 4,096 steps.

`python -m benchmarks.mqar` trains `configs/mqar.cfg` and its rivals, of as many weights and on the same
batches, into `runs/mqar/`, where what is there already is taken as it is. `--only=santm;lstm` trains some and
keeps the other rows of the table.
"""

from benchmarks import table, trained

TRAINED = ["--epochs=8", "--steps_per_epoch=100", "--batch_size=8", "--schedule=cosine", "--clip_norm=1.0"]
SIZE = ["--embedding=64", "--match_parameters=1160000"]  # embeddings are among the weights
RIVALS = {"santm": ["--flagfile=configs/mqar.cfg"]} | {
    name: ["--task=mqar", f"--model={name}", f"--learning_rate={rate}", *SIZE, *TRAINED]
    for name, rate in {"lstm": 0.005, "drr_lstm": 0.005, "mamba": 0.003, "transformer": 0.001}.items()}
LONGER = ["--test_pairs=1024", "--test_length=4096", "--test_sequences=16", "--batch_size=2"]
COLUMNS = {"runs": "seeds", "weights": "weights", "short": "64 pairs, 256 steps",
           "long": "1,024 pairs, 4,096 steps", "seconds": "seconds a run",
           "short_flops": "MFLOPs a sequence of 256", "long_flops": "MFLOPs a sequence of 4,096"}


def main():
    options = trained.options("mqar", RIVALS)
    rows = table.read("mqar")
    for name in options.only:
        folders = [f"runs/mqar/{name}-{seed}" for seed in range(options.seeds)]
        lines = [trained.result(None, folder, *RIVALS[name], f"--seed={seed}")
                 for seed, folder in enumerate(folders)]
        rows[name] = {
            "runs": len(lines), "weights": lines[0]["parameters"],
            "short": trained.spread([line["test_accuracy"] for line in lines]),
            "long": trained.spread([trained.evaluated(folder, *LONGER)["test_accuracy"]
                                     for folder in folders]),
            "seconds": sum(line["seconds"] for line in lines) / len(lines),
            "short_flops": trained.flops(*RIVALS[name]),
            "long_flops": trained.flops(*RIVALS[name], "--pairs=1024", "--length=4096")}
        table.write("mqar", "Accuracy over the steps at which a key is asked.", "model", rows, COLUMNS,
                    table.rounded)


if __name__ == "__main__":
    main()
