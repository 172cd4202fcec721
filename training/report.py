"""A trained run in figures: PNG files, and one page with all of them."""

import dataclasses

import numpy as np
import tensorflow as tf

from santm_tf.analysis.trace import inputs_of, layer_of, trace
from santm_tf.training import layer_figures, mask_history, page, score_figures
from santm_tf.training.measures import by_class, known, tested
from santm_tf.training.page import Table, View
from santm_tf.training.run import load_task

SEQUENCES = 16  # of the validation split, that are traced
BEYOND = 0.5, 1, 1.5, 2, 3  # test lengths over the longest in training


def write(config, workdir, task, model, epochs, result):
    """Writes `plots/*.png` and `report.html` into a run's folder; returns the page's path.

    Args:
      config, task, model: the run's, with the best weights. workdir: a `Workdir`.
      epochs, result: as in metrics.json.
    """
    title = f"{config.model} on {config.task}"
    tables = [Table("Figures", ["figure", "value"],
                    [[score_figures.plain(name), value] for name, value in result.items()]),
              Table("Flags that differ from the defaults", ["flag", "default"],
                    [[text, option.text(option.default) or "not given"]
                     for option, text in config.given().items()])]
    seen = None if task.stateful else tested(task, model)
    if seen and (rows := by_class(task, *known(task, *seen)[:2])):
        tables.append(Table("By class", ["class", "precision", "recall", "F1", "test examples"], rows))
    if task.about:
        tables.append(Table("The data as they were understood", [""], [[line] for line in task.about]))
    page.write(workdir.report, workdir.plots, title, tables,
               [*_of_run(workdir, epochs), *_of_task(config, task, model, seen), *_of_layer(task, model)])
    return workdir.report


def _of_run(workdir, epochs):
    if epochs:
        yield View("learning_curves", score_figures.learning_curves(epochs),
                   "Each figure after every epoch. Training figures are means over an epoch in which the "
                   "model still learned, with dropout; validation figures are taken after it, without.")
    rows = mask_history.read(workdir.path)
    if rows is not None:
        yield mask_view(rows)


def mask_view(rows):
    """The view of the access mask over training."""
    return View("access_mask", layer_figures.mask_over_training(rows),
                "A row is the access mask after one epoch, the first on top; blue steps may access the "
                "memory. On the right their share, the access rate, which training lowers.")


def _of_layer(task, model):
    layer = layer_of(model)
    if layer is not None:
        x = next(iter(task.validation))[0][:SEQUENCES]  # the same ones for every run of the task
        seen = trace(layer, *inputs_of(model, x))
        yield from sequence_views(layer, seen, 0, x, task)
        yield from memory_views(layer, seen)


def memory_views(layer, seen):
    """The views of a layer's memory over all traced sequences."""
    yield View("usage", layer_figures.usage(seen),
               "The weights by which each slot was written and read, summed over a sequence and averaged "
               f"over {len(seen.memory)} of the validation split. Flat bars: the content is spread out; "
               "single bars: slots with a role of their own.")
    if layer.recall is not None:
        yield View("chebyshev", layer_figures.chebyshev(layer),
                   "The recall mixes each slot with its neighbours by a polynomial in the attention. A large "
                   "T0 keeps a slot's own content, large higher terms bring in what is further away.")


def sequence_views(layer, seen, row, x, task):
    """The views of one traced sequence: `row` of a batch x of the task's."""
    accessed = "when the input has it be" if layer.access.adaptive else "at the same steps in every sequence"
    yield View("segments", layer_figures.segments(x, seen, row, **_shown(task)),
               "Where the model ends a segment, the lower level forgets and the middle level takes up what "
               f"the segment was. The memory is accessed {accessed}.")
    yield View("write", layer_figures.addressing(seen, row, "write"),
               "A column is one access, named by its step; bright slots are those that were written then. A "
               "bright diagonal: slot after slot is filled; a bright line: one slot is overwritten.")
    yield View("read", layer_figures.addressing(seen, row, "read"),
               "The same for reading. A slot that is bright here was bright above when its content was "
               "written.")
    if layer.recall is not None:
        yield View("attention", layer_figures.attention_band(layer, seen, row),
                   "For each slot (across) how much it attends to each of its neighbours (up: higher slots). "
                   "The same weights at all offsets mean that no neighbour matters more than another.")


def _shown(task):
    """How `layer_figures.segments` is to draw a sequence of a task."""
    if task.lexicon is None:
        return {"side": task.side}
    tokens = task.lexicon().tokens
    return {"words": lambda token: tokens[int(token)]}


def _of_task(config, task, model, seen):
    """The views of what was `tested`; of None none."""
    if seen:
        kind = task.answer.kind if task.answer else "class" if task.outputs > 1 else "numbers"
        if task.return_sequences and not task.classes and kind == "class":
            yield _positions(task, *seen)
        else:
            yield from VIEWS[kind](task, *known(task, *seen)[:2])
    for scale in task.scales:
        yield _scaled(config, model, scale)


def _confusion(task, y, predicted):
    matrix = tf.math.confusion_matrix(y, predicted.argmax(-1), task.outputs)
    yield View("confusion", score_figures.confusion(matrix, task.classes or range(task.outputs)),
               "Test examples by their true class (rows) and the class that the model named (columns). What "
               "is off the diagonal is wrong; the colour is the share of the row.")


def _agreement(task, y, predicted):
    if task.answer:
        y, predicted = (task.answer(part)["values"].numpy() for part in (y, predicted))
    yield View("agreement", score_figures.agreement(y.ravel(), predicted.ravel()),
               "A dot is a number of a test sequence; on the dashed line there is no error.")


# By the kind of what is predicted. Labels have their table.
VIEWS = {"class": _confusion, "numbers": _agreement, "labels": lambda task, y, predicted: ()}


def _positions(task, y, predicted, weight=None):
    """Accuracy at the steps of the answer: those of weight 1, or those whose target varies."""
    right = (y > 0.5) == (predicted > 0) if y.ndim == 3 else y == predicted.argmax(-1)
    right = right.reshape(*right.shape[:2], -1).mean(-1)
    if weight is None:
        weight = np.broadcast_to((y != y[:1]).any(0), y.shape)
    place = np.cumsum(weight > 0, 1)[weight > 0] - 1
    accuracy = np.bincount(place, right[weight > 0]) / np.bincount(place)
    chance = task.chance.get("accuracy", 1 / task.outputs)
    return View("positions", score_figures.positions(accuracy, chance),
                "The share of the test split's answers that are right at each of their steps. A fall to the "
                "right: what was to be recalled is lost with time, or with the errors before.")


def _scaled(config, model, scale):
    """The task's score on test sequences of several lengths."""
    curve, chance = {}, {}
    lengths = {max(scale.least, round(share * scale.trained)) for share in BEYOND}
    for length in sorted(lengths | {config.data[scale.option] or scale.trained}):
        task = load_task(dataclasses.replace(config, data={**config.data, scale.option: length}))
        metric = task.monitor.removeprefix("val_")
        curve[length] = model.evaluate(task.test, verbose=0, return_dict=True)[metric]
        chance[length] = task.chance[metric]
    return View(scale.option.replace("test_", "by_"),
                score_figures.lengths(curve, chance, scale.noun, metric, scale.trained),
                f"The score on test sequences of each {scale.noun}; what lies right of the grey area is "
                "longer than anything the model was trained on.")
