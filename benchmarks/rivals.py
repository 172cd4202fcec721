"""Every model on every task at equal size: the same batches, epochs and budget of choices, over three seeds.

`python -m benchmarks.rivals --data_dir=../shared/data` works in `runs/rivals/` until all is done, or for
`--minutes`; what is there already is taken as it is, and a run that was stopped goes on. `--tasks` and
`--models` pick some. The table is written after each pair of a task and a model.

With seed 0 and half of the epochs a model tries three learning rates with the first value of its own option,
then the second value with the best of them. Validation chooses. Optuna keeps what was tried, in a file. The
choice is trained with every seed, and the test split reports. `benchmarks/rivals_settings.py` has the tasks.
"""

import argparse
import math
import os
import statistics
import time

import numpy as np
import optuna
from scipy import stats

from benchmarks import table, trained
from benchmarks.rivals_settings import MODELS, RATES, SETTINGS, flags
from santm_tf.training import journal

FOLDER = os.path.join("runs", "rivals")
CHOICES = {"rate": optuna.distributions.CategoricalDistribution(RATES),
           "option": optuna.distributions.CategoricalDistribution((0, 1))}
DECADE = 10
COLUMNS = {"score": "test", "against": "p against the first", "rate": "learning rate", "option": "option",
           "flops": "MFLOPs a sequence", "seconds": "seconds a run", "weights": "weights", "seeds": "seeds"}


class OutOfTime(Exception):
    """The minutes that were given are over."""


class Rivals:
    """The runs of a comparison, in a folder.

    Args:
      data_dir: the folder of the data. ends: when no further run begins, in seconds of `time.monotonic`.
    """

    def __init__(self, data_dir, ends):
        self.data_dir, self.ends = data_dir, ends
        os.makedirs(FOLDER, exist_ok=True)
        self.storage = journal.storage(os.path.join(FOLDER, "studies.log"))

    def run(self, task, model, rate, option, seed, epochs):
        """The result and the best figure on the validation split; None for a run that failed."""
        if time.monotonic() > self.ends:
            raise OutOfTime
        setting, own = SETTINGS[task], MODELS[model][1][option]
        workdir = os.path.join(FOLDER, task, f"{model}-{rate}-{option}-{epochs}-{seed}")
        given = [*flags(task, model), *own.split(), f"--learning_rate={rate}", f"--epochs={epochs}",
                 f"--seed={seed}", *setting.data_flags(self.data_dir)]
        try:
            result = trained.result(None, workdir, *given)
        except SystemExit:  # its loss was NaN, say; the folder's stderr has it
            return None
        best = max if setting.highest else min
        return result, best(epoch[f"val_{setting.metric}"] for epoch in trained.metrics(workdir)["epochs"])

    def chosen(self, task, model):
        """The learning rate and the option, by validation."""
        setting = SETTINGS[task]
        study = optuna.create_study(storage=self.storage, study_name=f"{task}, {model}", load_if_exists=True,
                                    direction="maximize" if setting.highest else "minimize")

        def tried(rate, option):
            known = {tuple(trial.params.values()): trial.value for trial in study.trials if trial.values}
            if (rate, option) not in known:
                found = self.run(task, model, rate, option, 0, max(1, setting.epochs // 2))
                worst = -math.inf if setting.highest else math.inf
                known[rate, option] = worst if found is None else found[1]
                study.add_trial(optuna.trial.create_trial(
                    params={"rate": rate, "option": option}, distributions=CHOICES,
                    value=known[rate, option]))
            return known[rate, option]

        best = max if setting.highest else min
        rate = best(RATES, key=lambda rate: tried(rate, 0))
        return rate, best((0, 1), key=lambda option: tried(rate, option))

    def row(self, task, model, seeds):
        """One row of the table: the test scores over seeds."""
        rate, option = self.chosen(task, model)
        setting = SETTINGS[task]
        found = [self.run(task, model, rate, option, seed, setting.epochs) for seed in range(seeds)]
        lines = [result for result, _ in filter(None, found)]
        scores = [line[f"test_{setting.metric}"] for line in lines]
        own = MODELS[model][1][option]
        return {"task": task, "model": model, "scores": scores, "rate": rate, "option": own, "failed":
                seeds - len(lines), "score": trained.spread(scores) if scores else "failed",
                "flops": trained.flops(*flags(task, model), *own.split(), *setting.data_flags(self.data_dir)),
                "seconds": statistics.mean(line["seconds"] for line in lines) if lines else math.nan,
                "weights": lines[0]["parameters"] if lines else 0, "seeds": len(lines)}


def ranked(rows, task):
    """The rows of a task, the best first, each with the p-value of a paired t-test against that one."""
    own = [row for row in rows.values() if row["task"] == task and row["scores"]]
    own.sort(key=lambda row: statistics.mean(row["scores"]), reverse=SETTINGS[task].highest)
    for row in own:
        pairs = [row["scores"], own[0]["scores"]]
        differ = len(set(map(len, pairs))) == 1 and len(pairs[0]) > 1 and pairs[0] != pairs[1]
        row["against"] = float(stats.ttest_rel(*pairs).pvalue) if differ else ""
    return own


def write(rows):
    ordered = [row for task in SETTINGS for row in ranked(rows, task)]
    table.write("rivals", "Test scores of models of 50,000 weights, mean ± deviation over seeds.",
                "task, model", {f"{row['task']}, {row['model']}": row for row in ordered}, COLUMNS,
                table.rounded)


def draw(rows):
    """`docs/pictures/rivals.png`: for each task with rivals the test score over the FLOPs of a sequence."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = {task: own for task in SETTINGS if len(own := ranked(rows, task)) > 1}
    if not shown:
        return
    lines = -(-len(shown) // 2)
    figure, axes = plt.subplots(lines, 2, figsize=(9, 1 + 2.4 * lines), squeeze=False, layout="constrained")
    for axis in axes.ravel()[len(shown):]:
        axis.set_axis_off()
    for (task, models), axis in zip(shown.items(), axes.ravel(), strict=False):
        for row in models:
            mean, own = statistics.mean(row["scores"]), row["model"] == "santm"
            axis.errorbar(row["flops"], mean, np.std(row["scores"], ddof=len(row["scores"]) > 1), fmt="o",
                          color="C3" if own else "C0", capsize=2)
            axis.annotate(row["model"], (row["flops"], mean), (3, 3), textcoords="offset points", fontsize=7)
        flops = [row["flops"] for row in models]
        if max(flops) > DECADE * min(flops):
            axis.set_xscale("log")
        axis.set_title(f"{task}: {SETTINGS[task].metric}", fontsize=9)
        if not SETTINGS[task].highest:
            axis.invert_yaxis()  # better is up
    figure.supxlabel("MFLOPs a sequence")
    figure.savefig(os.path.join(table.PICTURES, "rivals.png"), dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rivals")
    parser.add_argument("--data_dir", default="../shared/data", help="folder of mnist.npz, fsdd.zip and "
                        "tinyshakespeare.txt")
    parser.add_argument("--tasks", default=";".join(SETTINGS), help="separated by semicolons")
    parser.add_argument("--models", default=";".join(MODELS), help="separated by semicolons")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so long")
    options = parser.parse_args()
    for flag, known in (("tasks", SETTINGS), ("models", MODELS)):
        for name in getattr(options, flag).split(";"):
            if name not in known:
                parser.error(f"--{flag}: {name} is none of {', '.join(known)}")
    rivals = Rivals(options.data_dir, time.monotonic() + 60 * options.minutes)
    rows = table.read("rivals")
    try:
        for task in options.tasks.split(";"):
            for model in options.models.split(";"):
                rows[f"{task}, {model}"] = rivals.row(task, model, options.seeds)
                write(rows)
                draw(rows)
    except OutOfTime:
        print("out of time: the same command goes on")


if __name__ == "__main__":
    main()
