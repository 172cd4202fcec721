"""Does a sparse memory learn what the dense one learns? SANTM with all weights, and with 4 a head.

`python -m benchmarks.parity` trains into `runs/parity/`, where what is there
already is taken as it is; `--only=copy;digits` trains on some tasks, and keeps the other rows of the table.
The settings are those of `configs/`, but for the flags below.
"""

import statistics

from benchmarks import table, trained

TASKS = {  # the score on the test split, and what differs from the flag file
    "copy": ("wrong_bits", ["--max_length=10", "--memory_slots=24", "--epochs=10", "--steps_per_epoch=300"]),
    "associative_recall": ("wrong_bits", ["--boundaries=fixed"]),
    "digits": ("accuracy", ["--epochs=40"]),
}
MEMORIES = {
    "dense": [],
    "sparse": ["--memory=sparse", "--top_k=4"],
}
COLUMNS = {"metric": "metric", **{name: name for name in MEMORIES}, "seconds": "seconds a run"}


def main():
    options = trained.options("parity", TASKS)
    rows = table.read("parity")
    for task in options.only:
        metric, flags = TASKS[task]
        runs = {name: [trained.result(f"configs/{task}.cfg", f"runs/parity/{task}-{memory}-{seed}", *flags,
                                      *own, f"--seed={seed}") for seed in range(options.seeds)]
                for memory, (name, own) in enumerate(MEMORIES.items())}
        scores = {name: [line[f"test_{metric}"] for line in lines] for name, lines in runs.items()}
        seconds = statistics.median(line["seconds"] for lines in runs.values() for line in lines)
        rows[task] = {"metric": metric.replace("_", " "), "scores": scores, "seconds": seconds,
                      **{name: trained.spread(values) for name, values in scores.items()}}
        table.write("parity", f"Test scores, mean ± deviation over {options.seeds} seeds; for wrong bits "
                    "less is better.", "task", rows, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
