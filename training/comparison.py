"""Runs of one task side by side: those that differ in the seed alone are one group."""

import os
from typing import NamedTuple

import numpy as np

from santm_tf.training import page, score_figures
from santm_tf.training.errors import UsageError
from santm_tf.training.forms import NUMBER, misfit
from santm_tf.training.page import Table, View
from santm_tf.training.workdir import Workdir

# Flags that make no group: no score depends on them, and a group's deviation is over the seed.
IGNORED = {"seed", "data_dir", "checkpoint_minutes", "jit_compile", "deterministic"}
NOT_SCORES = {"test_loss", "test_boundary_rate"}


class Run(NamedTuple):
    """A finished run: its folder, its flags' texts by name, its epochs' figures and those of the test."""

    path: str
    flags: dict
    epochs: list
    result: dict


def write(paths):
    """Writes `comparison.html` and `comparison/*.png` into the folder that the runs have in common.

    Args:
      paths: work directories of finished runs of one task.

    Returns:
      `(page, figures)`: the page's path, and `{group: {"n": runs, figure: {"mean": m, "deviation": s}}}`, the
      deviation of a single run being None.

    Raises:
      UsageError: a folder without a finished run, or runs of several tasks.
    """
    runs = [_read(path) for path in dict.fromkeys(map(os.path.abspath, paths))]
    tasks = {run.result["task"]: run.path for run in runs}
    if len(tasks) > 1:
        found = ", ".join(f"{path} is of {task}" for task, path in tasks.items())
        raise UsageError(f"--workdir: only runs of one task compare, and {found}")
    groups, differing = grouped(runs)
    names = [name for name in runs[0].result if name.startswith("test_")
             and all(name in run.result for run in runs)]
    names = [name for name in names if name not in NOT_SCORES] or names
    curves = [name.removeprefix("test_") for name in names]
    curves = [name for name in curves if all(f"val_{name}" in run.epochs[-1] for run in runs)]
    figures = {label: {"n": len(of), **{name: _summary([run.result[name] for run in of]) for name in names}}
               for label, of in groups.items()}
    views = [View("test_figures", score_figures.comparison_bars(
                      {label: [run.result for run in of] for label, of in groups.items()}, names),
                  "Bars are means over the runs of a group, which differ in the seed alone; whiskers are one "
                  "standard deviation to either side, dots the runs.")]
    if curves:
        views.append(View("learning_curves", score_figures.comparison_curves(
                              {label: [run.epochs for run in of] for label, of in groups.items()}, curves),
                          "Validation figures after every epoch: the mean over a group's runs, as far as all "
                          "of them went, and a band of one standard deviation to either side. In brackets "
                          "the number of runs."))
    folder = os.path.commonpath([os.path.dirname(run.path) for run in runs])
    where = os.path.join(folder, "comparison.html")
    tables = [_summaries(figures, names), _differences(groups, differing), _runs(groups, names, folder)]
    page.write(where, os.path.join(folder, "comparison"), f"Comparison on {next(iter(tasks))}", tables, views)
    return where, figures


def grouped(runs):
    """Runs by what tells them apart: `{label: runs}`, and the names of the flags that differ.

    A label has as many of these flags, in their order, as it needs to be the only one.
    """
    names = dict.fromkeys(name for run in runs for name in run.flags if name not in IGNORED)
    differing = [name for name in names if len(_texts(name, runs)) > 1]
    groups = {(): runs}
    for name in differing:
        finer = {}
        for label, of in groups.items():
            splits = len(_texts(name, of)) > 1
            for run in of:
                finer.setdefault((*label, *[_shown(run, name)] * splits), []).append(run)
        groups = finer
    return {", ".join(label) or of[0].result["model"]: of for label, of in groups.items()}, differing


def _read(path):
    workdir = Workdir(path)
    config, metrics = workdir.read_config(), workdir.read_metrics()
    if "result" not in metrics or not metrics["epochs"]:
        raise UsageError(f"--workdir={path}: metrics.json has no result yet; let the run finish, "
                               "with --resume")
    scores = [name for name in metrics["result"] if name.startswith("test_")]
    form = {"task": str, "model": str, "seed": int, **dict.fromkeys(scores, NUMBER)}
    if why := misfit(metrics["result"], form, "['result']"):
        raise UsageError(f"{workdir.metrics_file}: damaged ({why}); train it anew, or leave it out")
    return Run(path, config.texts(), metrics["epochs"], metrics["result"])


def _texts(name, runs):
    """A flag's texts in the runs whose model and task have it."""
    return {run.flags[name] for run in runs if name in run.flags}


def _shown(run, name):
    """A flag as a label has it: the model's name alone, else `name=value`."""
    return run.flags.get(name, "").lstrip("-").removeprefix("model=") or f"no {name}"


def _value(text):
    """What a flag file's line sets its flag to."""
    return text.partition("=")[2] or text.lstrip("-")


def _summary(values):
    deviation = float(score_figures.deviation(np.array(values))) if len(values) > 1 else None
    return {"mean": float(np.mean(values)), "deviation": deviation}


def _summaries(figures, names):
    heads = ["group", "n", *(head for name in names for head in (score_figures.plain(name), "deviation"))]
    rows = [[label, of["n"], *(cell for name in names for cell in of[name].values())]
            for label, of in figures.items()]
    return Table("Test figures: means over seeds", heads, rows)


def _differences(groups, differing):
    rows = [[label, *(_value(of[0].flags.get(name, "")) for name in differing)]
            for label, of in groups.items()]
    return Table("Flags that are not the same in all groups", ["group", *differing], rows)


def _runs(groups, names, folder):
    rows = [[os.path.relpath(run.path, folder), label, run.result["seed"], *(run.result[n] for n in names)]
            for label, of in groups.items() for run in of]
    return Table("Runs", ["run", "group", "seed", *map(score_figures.plain, names)], rows)
