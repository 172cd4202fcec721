"""Own data as they were understood, in lines to print."""

import numpy as np

from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION

MOST = 12  # channels and classes that are named one by one


def described(sequences, found, aims, front):
    """The lines: how many examples, their lengths, their channels, what is missing, what is predicted.

    Args:
      sequences: `reading.Sequences`. found: `Examples`. aims: `Target`. front: `Channels`.
    """
    lengths = np.asarray(found.lengths)
    counts = [(found.parts == part).sum() for part in (TRAIN, VALIDATION, TEST)]
    return (*sequences.notes, *found.notes,
            *sizes(counts, len(sequences.lengths), lengths.min(), np.median(lengths), lengths.max()),
            *_channels(sequences, front), *_aims(found, aims))


def sizes(counts, sequences, shortest, median, longest):
    """The lines on examples, their `counts` being those to train, to validate and to test."""
    said = ", ".join(f"{count:,} {noun}" for count, noun in
                     zip(counts, ("to train", "to validate", "to test"), strict=True))
    yield f"{sum(counts):,} examples of {sequences:,} sequences: {said}"
    more = "" if shortest == longest else f" to {longest:,}, median {int(median):,}"
    yield f"steps: {shortest:,}{more}"


def channel(name, front, ends, gaps, total, unknown):
    """The line on a channel.

    Args:
      front: `Channels`. ends: of its numbers, the least and the greatest, or None. gaps: values that are
        missing, of the total. unknown: steps with categories that are not in training.
    """
    known = {one["name"]: one for one in front.facts["numbers"] + front.facts["categories"]}[name]
    missing = f", {gaps:,} of {total:,} values missing ({_handled(front)})" if gaps else ""
    if "values" in known:
        rare = f", {unknown:,} steps with others" if unknown else ""
        return f"channel {name}: {len(known['values'])} categories in training{rare}{missing}"
    span = f"{ends[0]:.6g} to {ends[1]:.6g}" if ends else "nothing"
    return (f"channel {name}: {span}, mean {known['mean']:.6g} and scale {known['scale']:.4g} in training"
            f"{missing}")


def _channels(sequences, front):
    known = {one["name"]: set(one["values"]) for one in front.facts["categories"]}
    for i, each in list(enumerate(sequences.channels))[:MOST]:
        column = sequences.steps[:, i]
        finite = column[np.isfinite(column)]
        unknown = [n for n, value in enumerate(each.categories or ()) if value not in known[each.name]]
        yield channel(each.name, front, (finite.min(), finite.max()) if len(finite) else None,
                      int(np.isnan(column).sum()), len(column), int(np.isin(column, unknown).sum()))
    if len(sequences.channels) > MOST:
        yield f"and {len(sequences.channels) - MOST} more channels"


def _handled(front):
    return {"mask": "marked", "carry": "carried forward", "refuse": "refused"}[front.facts["missing"]]


def _aims(found, aims):
    if aims.kind == "number":
        yield numbers(aims)
        return
    mine = found.parts == TRAIN
    train = aims.y[mine if len(aims.y) == len(mine) else np.repeat(mine, found.lengths)]
    if aims.kind == "class":
        yield classes(aims.names, np.bincount(train[train >= 0], minlength=len(aims.names)))
    else:
        yield labels(aims.names, np.nanmean(train, 0))


def classes(names, counts):
    """The line on classes, and on their training examples."""
    order = np.argsort(-counts, kind="stable")[:MOST]
    some = ", ".join(f"{names[n]} {counts[n]:,}" for n in order)
    return f"classes, with training examples: {some}{', ...' * (len(counts) > MOST)}"


def labels(names, shares):
    """The line on labels, and on their share of the training examples."""
    shown = zip(names[:MOST], shares, strict=False)
    said = ", ".join(f"{name} {share:.2f}" for name, share in shown)
    return f"labels, with their share in training: {said}"


def numbers(aims):
    """The line on the numbers of a `Target`."""
    figures = zip(aims.names[:MOST], aims.mean, aims.scale, strict=False)
    return "predicted: " + ", ".join(f"{name} (mean {mean:.4g}, deviation {scale:.4g})"
                                     for name, mean, scale in figures)
