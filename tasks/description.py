"""Own data as they were understood, in lines to print."""

import numpy as np

from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION

MOST = 12  # channels and classes that are named one by one


def described(sequences, found, aims, front):
    """The lines: how many examples, their lengths, their channels, what is missing, what is predicted.

    Args:
      sequences: `reading.Sequences`. found: `Examples`. aims: `Target`. front: `Channels`.
    """
    counts = ", ".join(f"{(found.parts == part).sum():,} {noun}" for part, noun in
                       ((TRAIN, "to train"), (VALIDATION, "to validate"), (TEST, "to test")))
    lengths = np.asarray(found.lengths)
    spread = (f"{lengths.min():,}" if lengths.min() == lengths.max() else
              f"{lengths.min():,} to {lengths.max():,}, median {int(np.median(lengths)):,}")
    return (*sequences.notes, *found.notes,
            f"{len(found.parts):,} examples of {len(sequences.lengths):,} sequences: {counts}",
            f"steps: {spread}",
            *_channels(sequences, front), *_aims(found, aims))


def _channels(sequences, front):
    total = len(sequences.steps)
    known = {one["name"]: one for one in front.facts["numbers"] + front.facts["categories"]}
    for i, channel in list(enumerate(sequences.channels))[:MOST]:
        column = sequences.steps[:, i]
        gaps = int(np.isnan(column).sum())
        missing = f", {gaps:,} of {total:,} values missing ({_handled(front)})" if gaps else ""
        if channel.categories is not None:
            values = known[channel.name]["values"]
            unknown = sum(int((column == n).sum()) for n, value in enumerate(channel.categories)
                          if value not in set(values))
            rare = f", {unknown:,} steps with others" if unknown else ""
            yield f"channel {channel.name}: {len(values)} categories in training{rare}{missing}"
            continue
        finite = column[np.isfinite(column)]
        ends = f"{finite.min():.4g} to {finite.max():.4g}" if len(finite) else "nothing"
        yield (f"channel {channel.name}: {ends}, mean {known[channel.name]['mean']:.4g} and scale "
               f"{known[channel.name]['scale']:.4g} in training{missing}")
    if len(sequences.channels) > MOST:
        yield f"and {len(sequences.channels) - MOST} more channels"


def _handled(front):
    return {"mask": "marked", "carry": "carried forward", "refuse": "refused"}[front.facts["missing"]]


def _aims(found, aims):
    if aims.kind == "class":
        train = aims.y[found.of(TRAIN)] if len(aims.y) == len(found.parts) else aims.y
        counts = np.bincount(train[train >= 0], minlength=len(aims.names))
        order = np.argsort(-counts, kind="stable")[:MOST]
        some = ", ".join(f"{aims.names[n]} {counts[n]:,}" for n in order)
        yield f"classes, with training examples: {some}{', ...' * (len(counts) > MOST)}"
    elif aims.kind == "labels":
        shares = zip(aims.names[:MOST], aims.y.mean(0), strict=False)
        yield "labels, with their share: " + ", ".join(f"{name} {share:.2f}" for name, share in shares)
    else:
        figures = zip(aims.names[:MOST], aims.mean, aims.scale, strict=False)
        yield "predicted: " + ", ".join(f"{name} (mean {mean:.4g}, deviation {scale:.4g})"
                                        for name, mean, scale in figures)
