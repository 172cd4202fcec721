"""Figures of what runs score, by matplotlib; `training.layer_figures` has those of what a model does."""

import numpy as np

from santm_tf.errors import extra
from santm_tf.training.layer_figures import BLUE, COLOURS, HEAT, ORANGE, figure, ticks

with extra("plots"):
    from matplotlib import colormaps
    from matplotlib.ticker import MaxNLocator

SHARES = "rate", "accuracy"  # how figures end that are between 0 and 1
DECADES = 2  # others that change by more are drawn on a logarithmic axis


def learning_curves(epochs):
    """Every figure of a run by epoch, of the training and the validation data.

    Args:
      epochs: of each epoch, `{name: value}`, "val_" before the names of the validation's.
    """
    names = dict.fromkeys(key.removeprefix("val_") for key in epochs[-1] if key not in ("epoch", "seconds"))
    made, panels = _panels("Learning curves", sorted(names, key=lambda name: name != "loss"))
    steps = np.arange(1, len(epochs) + 1)
    for name, axes in panels:
        for label, key, colour in (("training", name, ORANGE), ("validation", f"val_{name}", BLUE)):
            if key in epochs[-1]:
                values = [epoch.get(key, np.nan) for epoch in epochs]
                axes.plot(steps, values, color=colour, label=label, marker="." * (len(steps) == 1))
        _finish_curve(axes, name)
    made.axes[0].legend(frameon=False)
    return made


def confusion(matrix, names):
    """How many examples of each class were taken for which.

    Args:
      matrix: ints `[classes, classes]`, a row for each true class. names: of the classes.
    """
    matrix = np.asarray(matrix)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    size = min(max(4.5, 0.5 * len(names) + 2), 14)
    made = figure("Which class was taken for which", size + 1, size)
    axes = made.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    made.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    if len(names) <= 20:
        for (row, column), count in np.ndenumerate(matrix):
            if count:
                axes.text(column, row, count, ha="center", va="center", fontsize="small",
                          color="white" if share[row, column] > 0.5 else "black")
    for axis in (axes.xaxis, axes.yaxis):
        ticks(axis, names, 40)
    axes.tick_params("x", rotation=90 * any(len(str(name)) > 3 for name in names))
    axes.set(xlabel="predicted class", ylabel="true class")
    return made


def lengths(curve, chance, noun, metric, trained):
    """A score by the length of the test sequences, up to and beyond those of training.

    Args:
      curve: `{length: score}`. chance: the same of guessing. noun: what is counted, such as "length".
      metric: the score's name. trained: the longest length in training.
    """
    made = figure(f"Test score by {noun}, beyond what was trained on")
    axes = made.subplots()
    axes.plot(list(curve), list(curve.values()), color=BLUE, marker="o", label="the model")
    axes.plot(list(chance), list(chance.values()), color="grey", linestyle="--", label="guessing")
    axes.axvspan(0, trained, color="grey", alpha=0.12, linewidth=0, label=f"in training: up to {trained}")
    axes.set(xlabel=f"{noun} of the test sequences", ylabel=plain(metric), ylim=(0, None), xlim=(0, None))
    axes.set_xticks(list(curve))
    axes.legend(frameon=False)
    return made


def positions(accuracy, chance):
    """The accuracy at each step of the answer, `[steps]`, beside that of guessing."""
    made, count = figure("Accuracy by the place in the answer", height=3.5), len(accuracy)
    axes = made.subplots()
    axes.plot(np.arange(1, count + 1), accuracy, color=BLUE, marker="o" if count < 60 else "")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.axhline(chance, color="grey", linestyle="--", label="guessing")
    axes.set(xlabel="step of the answer", ylabel="accuracy", ylim=(0, 1.03))
    axes.legend(frameon=False)
    return made


def agreement(target, predicted):
    """Predicted numbers by the true ones, each `[n]`."""
    made = figure("What was predicted, by what is true", 5.5, 5)
    axes = made.subplots()
    ends = [min(np.min(target), np.min(predicted)), max(np.max(target), np.max(predicted))]
    axes.plot(ends, ends, color="grey", linestyle="--", label="no error")
    axes.scatter(target, predicted, 8, color=BLUE, alpha=0.5, linewidths=0)
    axes.set(xlabel="true", ylabel="predicted")
    axes.legend(frameon=False)
    return made


def comparison_curves(groups, names):
    """Figures on the validation data by epoch, means over a group's runs and their deviation as a band.

    Args:
      groups: `{label: [epochs of each run]}`, epochs as in `learning_curves`. A group's curve goes as far as
        all of its runs. names: of the figures.
    """
    made, panels = _panels("Learning curves: mean over seeds, and the deviation as a band", names)
    for name, axes in panels:
        for (label, runs), colour in zip(groups.items(), _cycle(len(groups)), strict=True):
            last = min(map(len, runs))
            values = np.array([[epoch.get(f"val_{name}", np.nan) for epoch in run[:last]] for run in runs])
            steps, mean, spread = np.arange(1, last + 1), values.mean(0), deviation(values)
            axes.plot(steps, mean, color=colour, label=f"{label} ({len(runs)})")
            if len(runs) > 1:
                axes.fill_between(steps, mean - spread, mean + spread, color=colour, alpha=0.2, linewidth=0)
        _finish_curve(axes, name)
    made.legend(*made.axes[0].get_legend_handles_labels(), loc="outside lower center", frameon=False,
                ncols=min(3, len(groups)))
    return made


def comparison_bars(groups, names):
    """Figures on the test data: a bar for each group, the deviation over its runs, and the runs as dots.

    Args:
      groups: `{label: [{name: value} of each run]}`. names: of the figures.
    """
    made, panels = _panels("Test figures: mean over seeds, and the deviation", names, 1.5 + 0.3 * len(groups))
    for name, axes in panels:
        for place, (runs, colour) in enumerate(zip(groups.values(), _cycle(len(groups)), strict=True)):
            values = np.array([run[name] for run in runs])
            axes.barh(place, values.mean(), color=colour, alpha=0.6,
                      xerr=deviation(values) if len(runs) > 1 else None, capsize=4)
            axes.scatter(values, np.full(len(values), place), 14, color="black", zorder=3)
        axes.set(xlabel=plain(name))
        axes.set_yticks(range(len(groups)), list(groups))
        axes.invert_yaxis()
    return made


def deviation(values):
    """The sample's standard deviation over the first axis, 0 of a single value."""
    return np.std(values, 0, ddof=1) if len(values) > 1 else np.zeros_like(values[0])


def _cycle(count):
    """So many colours: the eight that are told apart best, else shades."""
    return COLOURS[:count] if count <= len(COLOURS) else colormaps[HEAT](np.linspace(0, 0.95, count))


def _panels(title, names, height=2.6):
    """A figure with a panel for each name, two in a row, and pairs of name and panel."""
    across = min(2, len(names))
    down = -(-len(names) // across)
    made = figure(title, 4 + 4 * across, 0.8 + height * down)
    panels = made.subplots(down, across, squeeze=False).ravel()
    for axes in panels[len(names):]:
        axes.set_axis_off()
    return made, zip(names, panels, strict=False)


def _finish_curve(axes, name):
    values = np.concatenate([line.get_ydata() for line in axes.get_lines()])
    values = values[np.isfinite(values)]
    axes.set(xlabel="epoch", ylabel=plain(name))
    if name.endswith(SHARES):
        axes.set_ylim(0, 1.03)
    elif len(values) and 0 < 10 ** DECADES * values.min() < values.max():
        axes.set_yscale("log")


def plain(name):
    """A figure's name in words."""
    return name.replace("_", " ")
