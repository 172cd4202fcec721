"""The pictures of docs/sizes.md, each of one option, from the layers and formulas themselves.

`python -m benchmarks.pictures` writes `docs/pictures/NAME.svg`. Nothing is trained. Random weights and data
are of fixed seeds.
"""

import os

import matplotlib
import numpy as np
import tensorflow as tf

from benchmarks import table
from santm_tf import AccessMask, ChebAttention, Recurrent, SegmentLSTMCell, SparseMemory, capacity
from santm_tf.analysis import cost
from santm_tf.keras import keras
from santm_tf.lstm import ChronoBias
from santm_tf.memories import DenseMemory
from santm_tf.projection import accesses
from santm_tf.sparse.weights import largest, weights_at
from santm_tf.training.layer_figures import COLOURS, figure

STEPS, UNITS, SLOTS = 784, 32, 32  # of pixel-by-pixel MNIST at the paper's sizes
SAVED = {"svg.hashsalt": "santm", "svg.fonttype": "none", "font.family": "sans-serif"}


def units():
    """Weights and FLOPs over the units of every level."""
    made = figure("units: what doubling them costs")
    axes, sizes = made.subplots(), [8, 16, 32, 64, 128, 256]
    for rate, colour in zip((1, 0.25, 0.05), COLOURS, strict=False):
        flops = [cost.santm(1, size, STEPS, rate).flops / 1e6 for size in sizes]
        axes.plot(sizes, flops, "o-", color=colour, label=f"access rate {rate}")
    _logs(axes, xlabel="units", ylabel="MFLOPs of a sequence of 784 steps")
    return made


def memory():
    """What training keeps of the memory over its slots, dense and sparse."""
    made = figure("memory_slots: FLOPs, and what training on one sequence keeps")
    sizes, (flops, kept) = 2 ** np.arange(5, 21, 3), made.subplots(1, 2)
    for name, colour in ("dense", COLOURS[0]), ("sparse", COLOURS[3]):
        kind = DenseMemory if name == "dense" else SparseMemory
        flops.plot(sizes, [cost.santm(1, UNITS, STEPS, 0.25, memory_slots=int(n), memory=name).flops / 1e6
                           for n in sizes], "o-", color=colour, label=name)
        kept.plot(sizes, [_bytes(kind(memory_slots=int(n))) / 2 ** 20 for n in sizes], "o-", color=colour)
    _logs(flops, xlabel="memory_slots, each 32 wide", ylabel="MFLOPs, access rate 0.25")
    _logs(kept, xlabel="memory_slots, each 32 wide", ylabel="MiB", legend=False)
    return made


def _bytes(sizes):
    cell = sizes.cell(UNITS, memory_horizon=STEPS)
    cell.build([[None, UNITS], [None, 1]])
    return cell.bytes_kept(STEPS // 4)


def access_rate():
    """FLOPs, and what an idealised memory holds, over the access rate."""
    made = figure("access_rate: what it costs, and what can be recalled")
    flops, held = made.subplots(1, 2)
    rates = np.linspace(0.01, 1, 100)
    for boundary_rate, colour in zip((1, 0.25), COLOURS, strict=False):
        spent = np.array([cost.santm(1, UNITS, STEPS, rate, boundary_rate).flops for rate in rates])
        flops.plot(rates, spent / 1e6, color=colour, label=f"boundary at {boundary_rate:.0%} of the steps")
    flops.set(xlabel="access rate", ylabel="MFLOPs of 784 steps", ylim=(0, None))
    flops.legend()
    counts = np.arange(1, STEPS + 1)
    for retention, colour in zip((0.9, 0.99, 0.999), COLOURS, strict=False):
        worth = capacity.recallable(STEPS, counts, retention, SLOTS)
        best = capacity.optimal_accesses(STEPS, retention, SLOTS)
        held.plot(counts / STEPS, worth, color=colour, label=f"retention {retention}")
        held.plot(best / STEPS, worth[best - 1], "o", color=colour)
    held.set(xscale="log", xlabel="access rate", ylabel="steps' worth recalled (theory)")
    held.legend()
    return made


def mask():
    """Which steps each kind of mask opens, at one rate."""
    made = figure("mask: the steps that may access the memory, at access rate 0.25", height=2.6)
    axes, period = made.subplots(), 64
    rows = {"uniform": AccessMask(period, 0.25, support="uniform"),
            "random": AccessMask(period, 0.25, support="random", seed=0),
            "learned, at rate 1": AccessMask(period, seed=0),
            "learned, lowered": AccessMask(period, seed=0)}
    for layer in rows.values():
        layer.build([None, period, 1])
    learned = rows["learned, lowered"]
    learned.budget.assign(accesses(0.25, period))
    learned.scores.assign(learned.scores.constraint(learned.scores))
    _raster(axes, {name: layer.scores.numpy() > 0 for name, layer in rows.items()})
    axes.set_xlabel("step")
    return made


def mask_period():
    """How a mask goes on in longer sequences."""
    made = figure("mask_period: the mask repeats, so a model reads longer sequences, too", height=2.2)
    axes, steps = made.subplots(), 96
    rows = {}
    for period in 96, 32, 8:
        layer = AccessMask(period, 0.25, support="random", seed=1)
        rows[f"mask_period={period}"] = layer(tf.ones([1, steps, 1])).numpy()[0, :, 0] > 0
    _raster(axes, rows)
    axes.set_xlabel("step")
    return made


def segment_length():
    """Where an untrained bottom level ends segments, and where a clock does."""
    made = figure("segment_length: where segments end before any training", height=2.6)
    axes, x = made.subplots(), tf.random.stateless_normal([1, 96, 4], [0, 0])
    rows = {}
    for length in 1.4, 4, 8:
        keras.utils.set_random_seed(0)
        _, beta = Recurrent(SegmentLSTMCell(16, segment_length=length), return_sequences=True)(x)
        rows[f"learned, {length}"] = beta.numpy()[0, :, 0] > 0
    for length in 4, 8:
        rows[f"fixed, {length}"] = (np.arange(96) + 1) % length == 0
    _raster(axes, rows)
    axes.set_xlabel("step")
    return made


def memory_horizon():
    """How much of what they hold the units keep, by the forget gates' first biases."""
    made = figure("memory_horizon: what is left of a unit's content before any training")
    axes, steps = made.subplots(), np.arange(1, 785)
    for horizon, colour in zip((2, 8, 42, 784), COLOURS, strict=False):
        bias = ChronoBias(horizon, seed=0)([4 * 256]).numpy()[256:512]
        kept = (1 / (1 + np.exp(-bias)))[:, None] ** steps
        axes.plot(steps, kept.mean(0), color=colour, label=f"memory_horizon={horizon}")
    axes.set(xscale="log", xlabel="steps later", ylabel="share left, mean of 256 units")
    axes.legend()
    return made


def locality():
    """From which slots one slot takes content, by the gradient."""
    made = figure("locality, cheb_order: from where slot 32 of 64 takes content", height=4.5)
    axes = made.subplots(4, 1, sharex=True)
    memory_, slots = tf.random.stateless_normal([1, 64, 16], [0, 0]), np.arange(64)
    for axis, (order, reach), colour in zip(axes, ((2, 2), (3, 4), (3, 8), (3, 32)), COLOURS, strict=False):
        keras.utils.set_random_seed(0)
        layer = ChebAttention(heads=4, order=order, locality=reach, form="dense")
        layer.build(memory_.shape)
        with tf.GradientTape() as tape:
            tape.watch(memory_)
            y = tf.reduce_sum(layer(memory_)[0, 32])
        share = tf.norm(tape.gradient(y, memory_)[0], axis=-1).numpy()
        share[32] = np.nan  # its own, which is far larger
        axis.fill_between(slots, share, step="mid", color=colour)
        axis.set(yticks=[], ylabel=f"l={reach}, K={order}")
    axes[-1].set_xlabel("slot (its own content, which counts most, is left out)")
    return made


def top_k():
    """The weights that a head keeps, beside all of them."""
    made = figure("top_k: the weights of one head over 32 slots", height=4.5)
    logits = tf.random.stateless_normal([1, 1, SLOTS], [0, 3]) * 1.5
    places = tf.reshape(tf.range(SLOTS), [1, 1, SLOTS])
    for axis, kept, colour in zip(made.subplots(4, 1, sharex=True, sharey=True), (2, 4, 8, SLOTS), COLOURS,
                                  strict=False):
        found = weights_at(largest(places, logits, kept), places, logits)
        axis.bar(found[0].numpy()[0, 0], found[1].numpy()[0, 0], color=colour)
        axis.set_ylabel(f"top_k={kept}" if kept < SLOTS else "dense")
    axis.set_xlabel("slot")
    return made


def lengths():
    """What padding to few lengths costs, for lengths that are drawn evenly."""
    made = figure("lengths: programs to compile against steps that are padding")
    axes, drawn = made.subplots(), np.random.default_rng(0).integers(10, 501, 10_000)
    counts = [1, 2, 4, 8, 16, 32, 64]
    wasted = []
    for count in counts:
        buckets = np.quantile(drawn, np.arange(1, count + 1) / count, method="higher")
        wasted.append(1 - drawn.sum() / buckets[np.searchsorted(buckets, drawn)].sum())
    axes.plot(counts, wasted, "o-", color=COLOURS[0])
    axes.set(xscale="log", xlabel="lengths that are padded to (XLA compiles each once)",
             ylabel="share of steps that are padding", ylim=(0, None))
    axes.set_xticks(counts, counts)
    axes.set_title("10,000 sequences of 10 to 500 steps", fontsize="medium")
    return made


def _logs(axes, legend=True, **names):
    axes.set(xscale="log", yscale="log", **names)
    if legend:
        axes.legend()


def _raster(axes, rows):
    """Rows of steps, coloured where they are true."""
    axes.imshow(np.stack(list(rows.values())), aspect="auto", interpolation="nearest",
                cmap=matplotlib.colors.ListedColormap(["#f2f2f2", COLOURS[0]]))
    axes.set_yticks(range(len(rows)), rows)


PICTURES = {made.__name__: made for made in (
    units, memory, access_rate, mask, mask_period, segment_length, memory_horizon, locality, top_k, lengths)}


def write(name, folder):
    """Writes one picture; returns its path."""
    path = os.path.join(folder, f"{name}.svg")
    with matplotlib.rc_context(SAVED):
        PICTURES[name]().savefig(path, metadata={"Date": None, "Creator": None})
    return path


if __name__ == "__main__":
    for each in PICTURES:
        write(each, table.PICTURES)
