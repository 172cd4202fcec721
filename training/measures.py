"""Figures of a test split beyond a model's own metrics: for classes, labels, and numbers in their unit."""

import numpy as np

from santm_tf.errors import MissingExtra, extra
from santm_tf.training.errors import note

DRAWS, SEED, LEVEL = 1000, 0, 0.95  # of the bootstrap


def measured(task, model):
    """The figures of a task's test split, `{name: value}`; none for a task whose answers have no names.

    Of classes: `balanced_accuracy`, `macro_f1`, `auc` (one class against the others, mean), and the
    `largest_class`'s share, which who always names it scores. Of labels: `macro_f1`, `auc`. Of numbers, in
    their unit: `mae`, `rmse`, `r2`, and `mean_mae`, `mean_rmse` of who always says the training mean.
    `accuracy_low` and `accuracy_high`, or `mae_low` and `mae_high`, are the ends of the 95 % interval of a
    bootstrap over the test examples.
    """
    if task.stateful or not (task.classes or task.answer) or not _has_metrics():
        return {}
    y, logits, owners = known(task, *tested(task, model))
    if task.classes:
        return _of_classes(y, logits, owners)
    if task.answer.kind == "labels":
        return _of_labels(y, logits, owners)
    return _of_numbers(y, logits, owners, task)


def tested(task, model):
    """`(y, logits, weight)` of the test split; weight is None where targets have none."""
    batches = [[part.numpy() for part in batch[1:]] for batch in task.test]
    y, *weight = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    return y, model.predict(task.test, verbose=0), weight[0] if weight else None


def known(task, y, logits, weight):
    """`(y, logits, owners)` of all known targets of what was `tested`, and which example each is of."""
    if not task.return_sequences:
        return y, logits, np.arange(len(y))
    known = np.ones(y.shape[:2], bool) if weight is None else weight > 0
    return y[known], logits[known], np.nonzero(known)[0]


def _of_classes(y, logits, owners):
    from sklearn import metrics

    named, classes = logits.argmax(-1), np.arange(logits.shape[-1])
    found = {"balanced_accuracy": metrics.balanced_accuracy_score(y, named),
             "macro_f1": metrics.f1_score(y, named, average="macro", zero_division=0),
             "largest_class": np.bincount(y).max() / len(y)}
    if len(np.unique(y)) == len(classes):  # else it is not defined
        shares = _softmax(logits)
        found["auc"] = metrics.roc_auc_score(y, shares[:, 1] if len(classes) == 2 else shares,
                                             multi_class="ovr", average="macro", labels=classes)
    return _plain(found | _interval("accuracy", y == named, owners))


def _of_labels(y, logits, owners):
    from sklearn import metrics

    found = {"macro_f1": metrics.f1_score(y, logits > 0, average="macro", zero_division=0)}
    both = [n for n in range(y.shape[1]) if 0 < y[:, n].sum() < len(y)]
    if both:
        found["auc"] = metrics.roc_auc_score(y[:, both], logits[:, both], average="macro")
    return _plain(found | _interval("accuracy", (y == (logits > 0)).mean(-1), owners))


def _of_numbers(y, logits, owners, task):
    from sklearn import metrics

    scale = np.broadcast_to(np.asarray(task.answer.scale, float), y.shape[1:])
    true, said, mean = y * scale, logits * scale, np.zeros_like(y)  # from the training mean
    errors = np.abs(true - said).mean(-1)
    found = {"mae": errors.mean(), "rmse": metrics.root_mean_squared_error(true, said),
             "r2": metrics.r2_score(true, said) if len(y) > 1 else np.nan,
             "mean_mae": np.abs(true).mean(), "mean_rmse": metrics.root_mean_squared_error(true, mean)}
    return _plain(found | _interval("mae", errors, owners))


def _interval(name, values, owners):
    """The ends of the interval of a mean, examples being drawn with replacement."""
    sums, counts = np.bincount(owners, values), np.bincount(owners)
    drawn = np.random.default_rng(SEED).integers(len(sums), size=[DRAWS, len(sums)])
    means = sums[drawn].sum(1) / np.maximum(counts[drawn].sum(1), 1)
    low, high = np.quantile(means, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return {f"{name}_low": low, f"{name}_high": high}


def by_class(task, y, logits):
    """Of each class or label its name, precision, recall, F1 and test examples, as the rows of a table.

    Args:
      y, logits: as `known` gives them.
    """
    kind = task.answer.kind if task.answer else "class"
    names = task.classes or (task.answer.names if kind == "labels" else ())
    if not names or not _has_metrics():
        return []
    from sklearn import metrics

    said, options = logits.argmax(-1), {"labels": range(len(names))}
    if kind == "labels":
        said, options = logits > 0, {}
    figures = metrics.precision_recall_fscore_support(y, said, zero_division=0, **options)
    return [[name, *(f"{value:.3f}" for value in row[:3]), int(row[3])]
            for name, row in zip(names, np.transpose(figures), strict=True)]


def _has_metrics():
    """Whether scikit-learn is there; says so once if it is not."""
    try:
        with extra("tasks"):
            import sklearn.metrics  # noqa: F401
    except MissingExtra as missing:
        note(f"accuracy or loss alone: {missing}")
        return False
    return True


def _softmax(logits):
    shares = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return shares / shares.sum(-1, keepdims=True)


def _plain(figures):
    return {name: float(value) for name, value in figures.items()}
