"""Figures of what a SANTM layer does: from arrays to a matplotlib `Figure`, which `png` writes."""

import io
import warnings

import numpy as np

from santm_tf.errors import extra

with extra("plots"):
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.text import Text
    from matplotlib.ticker import MaxNLocator

# Okabe and Ito's colours, which people with any colour vision tell apart.
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW, BLACK = COLOURS = (
    "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
HEAT = "viridis"
SOFTWARE = "santm-tf"  # in a PNG file
MOST = 64  # slots in a heat map


def figure(title, width=8.0, height=4.0):
    """A figure of so many inches, with a canvas of its own: it shares no state with others."""
    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    made.suptitle(title)
    return made


def png(figure, dpi=100):
    """The figure as the bytes of a PNG file, which says that this library wrote it."""
    buffer = io.BytesIO()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    # A name is shown as it stands; between two dollars Matplotlib would look for a formula.
    with warnings.catch_warnings(), rc_context({"text.parse_math": False}):
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a word of a script that the font lacks
        figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": SOFTWARE})
    return buffer.getvalue()


def mask_over_training(masks):
    """The access mask, epoch by epoch: bool `[E, P]`, which steps of a period were open after each."""
    masks = np.asarray(masks, bool)
    epochs, period = masks.shape
    made = figure("When the memory may be accessed, over training", height=4.5)
    axes, rate = made.subplots(1, 2, width_ratios=[5, 1], sharey=True)
    axes.imshow(masks, aspect="auto", cmap=ListedColormap(["#f2f2f2", BLUE]), vmin=0, vmax=1,
                interpolation="nearest", extent=[-0.5, period - 0.5, epochs + 0.5, 0.5])
    axes.set(xlabel="step of the period (blue: access)", ylabel="epoch")
    rate.plot(masks.mean(1), np.arange(1, epochs + 1), color=BLUE)
    rate.set(xlabel="access rate", xlim=(0, 1.05))
    return made


def addressing(trace, row, kind):
    """Where the heads of one sequence read or wrote: slots by accesses.

    Args:
      trace: `santm_tf.analysis.trace.Trace`. row: of its batch. kind: "read" or "write".
    """
    happened = trace.gates[row] > 0
    steps, slots = trace.accessed(row), _slots(trace, row, kind)
    title = f"Where content was {'read from' if kind == 'read' else 'written to'}"
    if not len(steps) or not len(slots):
        return _nothing(title, "the memory was not accessed")
    weights = trace.over(kind, row, slots)[happened]
    heads = weights.shape[1]
    made = figure(title, height=1.2 + 2.8 * heads)
    for head, axes in enumerate(np.atleast_1d(made.subplots(heads, 1, sharex=True))):
        image = axes.imshow(weights[:, head].T, aspect="auto", cmap=HEAT, vmin=0, interpolation="nearest",
                            origin="lower")
        made.colorbar(image, ax=axes, label="weight")
        axes.set(ylabel="slot" if heads == 1 else f"slot, head {head + 1}")
        ticks(axes.yaxis, slots, 10)
    axes.set(xlabel="access, by the step at which it happened")
    ticks(axes.xaxis, steps, 14)
    return made


def segments(inputs, trace, row, side=None, words=None):
    """Where the segments of one sequence end and where the memory was accessed, drawn over the input.

    Args:
      inputs: the batch that was traced: tokens, int `[B, T]`, or features `[B, T, d]`.
      trace, row: see `addressing`.
      side: of images that were read pixel by pixel; without it they are drawn as a line.
      words: of tokens, function from an id to its text.
    """
    last = np.flatnonzero(trace.valid[row])[-1:]  # padding comes last
    length = int(last[0]) + 1 if len(last) else 0
    title = "Segments and accesses of one sequence"
    if not length:
        return _nothing(title, "the sequence is empty")
    x = np.asarray(inputs)[row, :length]
    ends = np.flatnonzero(trace.boundaries[row, :length])
    accesses = trace.accessed(row)
    if x.ndim == 1 and words is not None:
        return _written(title, list(map(words, x)), ends, accesses)
    if side is not None and length == side * side:
        return _drawn(title, x.reshape(side, side, -1), ends, accesses)
    made = figure(title, width=10.0)
    above, below = made.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    x = x.reshape(length, -1).astype(float)
    if x.shape[1] > 3:
        binary = np.isin(x, (0, 1)).all()
        above.imshow(x.T, aspect="auto", cmap="Greys" if binary else HEAT, interpolation="nearest",
                     extent=[-0.5, length - 0.5, x.shape[1] - 0.5, -0.5])
        above.set(ylabel="input bit" if binary else "input channel")
    else:
        for n, channel in enumerate(x.T):
            above.step(np.arange(length), channel, where="mid", color=COLOURS[n], linewidth=1,
                       label=f"channel {n}")
        if x.shape[1] > 1:
            above.legend(frameon=False, ncols=3, loc="lower right", bbox_to_anchor=(1, 1))
        above.set(ylabel="token" if np.asarray(inputs).ndim == 2 else "input")
    _strip(below, length, ends, accesses)
    return made


def _strip(axes, length, ends, accesses):
    """Segments as bars of alternating shade, accesses as ticks below."""
    starts = np.concatenate([[0], ends + 1])
    widths = np.diff(np.append(starts, length))
    axes.broken_barh([(start - 0.5, width) for start, width in zip(starts, widths, strict=True) if width],
                     (0.55, 0.4), color=[SKY, BLUE])
    axes.vlines(accesses, 0.05, 0.45, color=RED, linewidth=max(0.8, min(4, 300 / length)))
    axes.set(xlabel="step", ylim=(0, 1), xlim=(-0.5, length - 0.5))
    axes.set_yticks([0.25, 0.75], ["accesses", "segments"])


def _drawn(title, image, ends, accesses):
    """The image, `[side, side, channels]`, that was read row by row."""
    made, side = figure(title, width=6.0, height=6.4), len(image)
    axes = made.subplots()
    axes.imshow(image.squeeze(), cmap="Greys", interpolation="nearest")
    y, x = np.divmod(ends, side)
    axes.vlines(x + 0.46, y - 0.5, y + 0.5, color=BLUE, linewidth=60 / side, label="a segment ends")
    y, x = np.divmod(accesses, side)
    axes.scatter(x, y, (100 / side) ** 2, color=RED, edgecolors="white", linewidths=0.5,
                 label="the memory is accessed")
    axes.set(xlabel="column", ylabel="row; pixels are read row by row")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.1), ncols=2, frameon=False)
    return made


def _written(title, words, ends, accesses, columns=110):
    """Words as running text: a bar where a segment ends, a box where the memory was accessed."""
    places, line, column = [], 0, 0
    gap = 2 if any(len(word) > 1 for word in words) else 1
    for word in words:
        if column and column + len(word) > columns:
            line, column = line + 1, 0
        places.append((column, line))
        column += len(word) + gap
    made = figure(title, width=10.0, height=1.0 + 0.25 * (line + 1))
    axes = made.subplots()
    axes.set(xlim=(0, columns), ylim=(line + 0.8, -0.8))
    axes.set_title("blue bar: a segment ends; yellow box: the memory is accessed", fontsize="medium")
    axes.set_axis_off()
    ends, accesses = set(ends), set(accesses)
    for n, (word, (column, line)) in enumerate(zip(words, places, strict=True)):
        box = {"facecolor": YELLOW, "edgecolor": RED, "pad": 1.5} if n in accesses else None
        axes.text(column, line, word, family="monospace", size=9.5, va="center", bbox=box, parse_math=False)
        if n in ends:
            axes.vlines(column + len(word) + gap / 3, line - 0.4, line + 0.4, color=BLUE, linewidth=2)
    return made


def usage(trace):
    """How much each slot was written and read, mean over the sequences of a trace."""
    batch = len(trace.memory)
    slots = np.unique(np.concatenate([_slots(trace, row, kind) for row in range(batch)
                                      for kind in ("read", "write")]))
    made = figure("How much each slot of the memory is used")
    kinds = ("write", "written", RED), ("read", "read", BLUE)
    for axes, (kind, done, colour) in zip(made.subplots(2, 1, sharex=True), kinds, strict=True):
        total = np.zeros(0) if not len(slots) else np.mean(
            [trace.over(kind, row, slots).sum((0, 1)) for row in range(batch)], 0)
        axes.bar(np.arange(len(slots)), total, color=colour, width=0.9)
        axes.set(ylabel=f"{done}, total weight")
    axes.set(xlabel="slot")
    ticks(axes.xaxis, slots, 16)
    return made


def attention_band(layer, trace, row):
    """How much each slot attends to its neighbours in the last memory, a panel per attention head.

    Args:
      layer: a `SANTM` that recalls by attention. trace, row: see `addressing`.
    """
    attention, memory = layer.recall, trace.memory[row:row + 1]
    banded, heads = 2 * attention.locality < attention.slots, attention.heads
    slots = np.arange(attention.slots)
    if banded and len(slots) > MOST:
        slots = _slots(trace, row, "write")
    weights = (attention.band if banded else attention.attention)(memory)[0].numpy()
    weights = np.where(weights > 0, weights, np.nan)[:, slots]  # a slot is no neighbour of its own
    across = min(heads, 2)
    down = -(-heads // across)
    made = figure("Attention between neighbouring slots, at the last step", height=1.2 + 2.2 * down)
    grid = made.subplots(down, across, sharex=True, sharey=True, squeeze=False)
    near = attention.locality + 0.5
    for head, axes in enumerate(grid.flat):
        if head >= heads:
            axes.set_axis_off()
            continue
        extent = [-0.5, len(slots) - 0.5, -near, near] if banded else None
        image = axes.imshow(weights[head].T, aspect="auto", cmap=HEAT, interpolation="nearest", vmin=0,
                            vmax=np.nanmax(weights), origin="lower", extent=extent)
        axes.set_title(f"head {head + 1}", fontsize="medium")
        ticks(axes.xaxis, slots, 8)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    made.colorbar(image, ax=grid, label="weight")
    made.supxlabel("slot")
    made.supylabel("neighbour, slots away" if banded else "slot attended to")
    return made


def chebyshev(layer):
    """How strong each Chebyshev term of the recall's filter is: `||Theta_k||_F / sqrt(d)` of each head."""
    theta = layer.recall.theta.numpy().astype(float)  # [K, A, d, d]
    size = np.sqrt((theta ** 2).sum((2, 3)) / theta.shape[-1])
    order, heads = size.shape
    made = figure("The recall's Chebyshev filter, by attention head")
    axes = made.subplots()
    for k in range(order):
        axes.bar(np.arange(heads) + (k - (order - 1) / 2) * 0.8 / order, size[k], 0.8 / order,
                 color=COLOURS[k % len(COLOURS)], label=f"T{k}: {_term(k, layer.recall)}")
    axes.set(xlabel="attention head", ylabel="size of the coefficient")
    axes.set_xticks(range(heads), range(1, heads + 1))
    axes.legend(frameon=False, ncols=min(order, 4), loc="upper center", bbox_to_anchor=(0.5, -0.15))
    return made


def _term(k, attention):
    if 2 * k * attention.locality >= attention.slots:
        return "all slots"
    return f"slots up to {k * attention.locality} away" if k else "the slot itself"


def _slots(trace, row, kind):
    """The slots to show: all of few, else those most used."""
    count = trace.memory.shape[1]
    return np.arange(count) if count <= MOST else trace.slots(kind, row, MOST)


def ticks(axis, names, most):
    """Names for positions 0, 1, ... of an axis, as many as fit."""
    shown = range(0, len(names), max(1, -(-len(names) // most)))
    axis.set_ticks(list(shown), [str(names[n]) for n in shown])


def _nothing(title, why):
    made = figure(title, height=1.5)
    made.text(0.5, 0.4, why, ha="center")
    return made
