"""Trains SANTM and an LSTM on four small UCR and UEA sets from their files, over seeds, beside 1-NN with DTW.

Nothing is given but the task, the file and the run's folder, so the sizes come from the data
(`tasks/sizes.py`). The sets are those in the wheel of aeon, whose nearest neighbour is the third column.
`python -m benchmarks.own_data --only=ArrowHead` trains one.
"""

import os
import statistics

from benchmarks import table, trained

# The goal for SANTM, and the best score that is published (Bagnall et al. 2017; Ruiz et al. 2021).
SETS = {"BasicMotions": (0.95, 1.0), "JapaneseVowels": (0.93, 0.99), "ItalyPowerDemand": (0.93, 0.97),
        "ArrowHead": (0.75, 0.88)}
MODELS = "santm", "lstm"
COLUMNS = {"santm": "`santm`", "lstm": "`lstm`", "neighbour": "1-NN, DTW", "goal": "goal",
           "best": "best known", "santm_seconds": "seconds, `santm`", "lstm_seconds": "seconds, `lstm`"}


def main():
    import aeon.datasets

    folder = os.path.join(os.path.dirname(aeon.datasets.__file__), "data")
    chosen = trained.options("own_data", list(SETS))
    rows = table.read("own_data")
    for name in chosen.only:
        goal, best = SETS[name]
        row = {"goal": goal, "best": best, "neighbour": neighbour(folder, name)}
        for model in MODELS:
            lines = [trained.result(None, f"runs/own-{name}-{model}-{seed}", "--task=sequences",
                                    f"--data_dir={os.path.join(folder, name)}", f"--model={model}",
                                    f"--seed={seed}")
                     for seed in range(chosen.seeds)]
            accuracies = [line["test_accuracy"] for line in lines]
            row |= {model: trained.spread(accuracies), f"{model}_accuracies": accuracies,
                    f"{model}_seconds": statistics.mean(line["seconds"] for line in lines)}
        rows[name] = row
        table.write("own_data", "Own data by `--task=sequences`, no flag for any size: test accuracy, mean "
                    "and deviation over three seeds; mean seconds on the machine at hand.",
                    "set", {one: rows[one] for one in SETS if one in rows}, COLUMNS, table.rounded)


def neighbour(folder, name):
    """The test accuracy of the nearest neighbour by dynamic time warping."""
    from aeon.classification.distance_based import KNeighborsTimeSeriesClassifier
    from aeon.datasets import load_from_ts_file

    (x, y), (test_x, test_y) = (load_from_ts_file(os.path.join(folder, name, f"{name}_{part}.ts"))
                                for part in ("TRAIN", "TEST"))
    found = KNeighborsTimeSeriesClassifier(n_neighbors=1, distance="dtw").fit(x, y)
    return float(found.score(test_x, test_y))


if __name__ == "__main__":
    main()
