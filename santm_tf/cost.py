"""What a model costs: FLOPs, memory accesses and bytes of one sequence's forward pass, from its sizes.

FLOPs are counted as TensorFlow's profiler counts them (`tensorflow/python/profiler/internal/
flops_registry.py`): a product `[m, k] [k, n]` is `2 m k n`; arithmetic on n numbers and a sum of n are n,
a softmax 5 n, a reciprocal root 2 n; exp, tanh, log-softmax and what only moves numbers are nothing.
What the profiler counts in the layers' own graphs is within 5 % of these formulas (tests/test_cost.py).

A level that is held costs nothing: it is one sequence that is counted, and not a batch in which others
may move. Symbols and defaults are the layers': d features, H units, N slots, W slot width, R read heads,
T steps. A level's function is one step; a model's is a sequence.
"""

import dataclasses
import functools
import inspect
import math

from santm_tf.attention import SLOTS_PER_OFFSET
from santm_tf.errors import ArgumentError

_RATES = ("access_rate", "boundary_rate", "update_rate")


@dataclasses.dataclass(frozen=True)
class Cost:
    """FLOPs, memory accesses and bytes; costs add up, and `steps * cost` is that of so many steps.

    Args:
      flops: floating-point operations.
      accesses: slots of an external memory that heads read or write. A dense head touches all N at
        each step that accesses the memory; the recall, which is outside the recurrence, is no access.
      bytes: what the steps that act move as float32, nothing cached from one step to the next: each
        weight read once; each number of the state, the external memory among it, read once and
        written once. Inputs, outputs and what lives within a step are left out. What is computed for
        all steps at once reads its weights once.

    >>> 3 * Cost(flops=10, accesses=1, bytes=4) + Cost(flops=1)
    Cost(flops=31, accesses=3, bytes=12)
    """

    flops: float = 0
    accesses: float = 0
    bytes: float = 0

    def __add__(self, other):
        return Cost(self.flops + other.flops, self.accesses + other.accesses, self.bytes + other.bytes)

    def __mul__(self, times):
        return Cost(self.flops * times, self.accesses * times, self.bytes * times)

    __rmul__ = __mul__


def _checked(count):
    """`count`, refusing sizes below 1 and rates outside [0, 1]."""
    signature = inspect.signature(count)

    @functools.wraps(count)
    def checked(*args, **kwargs):
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            least = 0 if name == "shift_range" else 1
            if name in _RATES and not 0 <= value <= 1:
                raise ArgumentError(f"cost.{count.__name__}: {name}={value}; it must be in [0, 1]")
            if name not in (*_RATES, "return_sequences") and value is not None and not value >= least:
                raise ArgumentError(f"cost.{count.__name__}: {name}={value}; it must be at least {least}")
        return count(*args, **kwargs)

    return checked


def _dense(inputs, outputs, rows=1, bias=True):
    """`x W + b` on rows of numbers at once."""
    return Cost((2 * inputs + bias) * outputs * rows, bytes=4 * (inputs + bias) * outputs)


def _state(numbers):
    return Cost(bytes=8 * numbers)


def _norm(width, rows=1):
    """Layer normalisation: mean, variance, and scale and offset, 9 a number."""
    return Cost(9 * width * rows, bytes=8 * width)


@_checked
def lstm(features, units, steps=1):
    """`T (8 H (d + H) + 28 H)` FLOPs (Hochreiter and Schmidhuber 1997): four maps, and 28 H around them.

    12 of the 28 H make four gates of one tanh (`santm_tf.lstm.lstm`).

    >>> lstm(1, 32).flops
    9344
    """
    return steps * (_dense(features + units, 4 * units) + Cost(24 * units) + _state(2 * units))


@_checked
def segment_lstm(features, units):
    """A step of the bottom level, `lstm + 2 d + 3 H + 6` FLOPs: `u.x + v.c`, reset. See `SegmentLSTMCell`.

    >>> segment_lstm(1, 32).flops - lstm(1, 32).flops
    104
    """
    return lstm(features, units) + _dense(features + units, 1) + Cost(units + 5)


@_checked
def cascade_lstm(features, units):
    """A step of the middle level, `lstm + 6 H` FLOPs: the state's gate by beta. See `CascadeLSTMCell`.

    >>> cascade_lstm(32, 32).flops - lstm(32, 32).flops
    192
    """
    return lstm(features, units) + Cost(6 * units)


@_checked
def ntm_step(features, units, memory_slots=32, slot_width=32, read_heads=1, write_heads=1, shift_range=1):
    """A step of a Neural Turing Machine (Graves et al. 2014). See `NTMCell`.

    With h = R + V heads, V of them write heads, and E = h (W + 2 s + 4) + 2 V W numbers for them:
    `lstm(d + R W, H)`    controller
    `2 H E + 3 E`         heads, clipped
    `(2 h + 3) N W`       `K[k, M_i]`: a product a head, and the slots' norms
    `(2 R + 5 V) N W`     read; erase and add
    `(21 + 4 s) h N`      equations 5 to 9, each on h N weights
    and 3 V W + 2 h W + 5 h (2 s + 1) for what the heads' numbers go through. h N accesses.

    >>> ntm_step(1, 32).flops, ntm_step(1, 32).accesses
    (43106, 64)
    """
    heads, memory = read_heads + write_heads, memory_slots * slot_width
    read = read_heads * slot_width
    outputs = heads * (slot_width + 2 * shift_range + 4) + 2 * write_heads * slot_width
    flops = (2 * outputs + (2 * heads + 3 + 2 * read_heads + 5 * write_heads) * memory
             + (21 + 4 * shift_range) * heads * memory_slots
             + (3 * write_heads + 2 * heads) * slot_width + 5 * heads * (2 * shift_range + 1))
    return (lstm(features + read, units) + _dense(units, outputs)
            + Cost(flops, accesses=heads * memory_slots) + _state(read + heads * memory_slots + memory))


@_checked
def memory_step(features, units, memory_slots=32, slot_width=32, read_heads=1, write_heads=1, shift_range=1):
    """An accessed step of the top level, `ntm_step + 3 (2 H + R W + h N) + V N` FLOPs: its state is gated.

    Arguments as of `ntm_step`. See `MemoryCell`.

    >>> memory_step(32, 32).accesses
    64
    """
    gated = 2 * units + read_heads * slot_width + (read_heads + write_heads) * memory_slots
    step = ntm_step(features, units, memory_slots, slot_width, read_heads, write_heads, shift_range)
    return step + Cost(3 * gated + write_heads * memory_slots)


@_checked
def cheb_attention(memory_slots, slot_width, attention_heads=4, cheb_order=3, locality=4, feed_forward=None):
    """The recall's attention over N slots: A heads, order K, hidden width F. See `ChebAttention`.

    `8 N W^2 + 2 K N W^2 / A + 4 N W F`   the maps Q, K_, V, W_o; Theta; the feed-forward block
    `2 K N^2 W + 4 A N^2`                 S, and A^ x for each order above 0 (nothing for K = 1)
    `(4 K + 1) N W + N F`                 Chebyshev terms, residuals, biases
    The banded form has `4 K w N W + 3 A w N` in place of the second line.

    Raises:
      ArgumentError: sizes below 1, or heads that do not divide W.

    >>> cheb_attention(32, 32).flops
    669696
    """
    if slot_width % attention_heads:
        raise ArgumentError(f"cost.cheb_attention: attention_heads={attention_heads}; "
                            f"it must divide slot_width={slot_width}")
    memory, hidden = memory_slots * slot_width, feed_forward or slot_width
    maps = (_dense(slot_width, 4 * slot_width, memory_slots, bias=False)
            + cheb_order * _dense(slot_width // attention_heads, slot_width, memory_slots, bias=False))
    feed = _dense(slot_width, hidden, memory_slots) + _dense(hidden, slot_width, memory_slots)
    if memory_slots > SLOTS_PER_OFFSET * locality:
        graph = (4 * cheb_order * slot_width + 3 * attention_heads) * locality * memory_slots
    else:
        graph = (2 * cheb_order * slot_width + 4 * attention_heads) * memory_slots ** 2
    graph *= cheb_order > 1
    return maps + feed + Cost(graph + 4 * cheb_order * memory, bytes=4 * memory)


@_checked
def santm(features, units, steps, access_rate, boundary_rate=0.25, memory_slots=32, slot_width=32,
          read_heads=1, write_heads=1, shift_range=1, attention_heads=4, cheb_order=3, locality=4,
          return_sequences=False):
    """A sequence through SANTM (Shan et al. 2025; see `SANTM`): each level as often as it acts.

    `T segment_lstm(d) + beta T cascade_lstm(H) + rho T memory_step(H) + S recall + S_y readout`

    `recall = cheb_attention + 2 R N W + N W`, `readout = 2 (2 H + (R + 1) W) H + H`; S = S_y = 1, or with
    return_sequences S = 1 + rho T (the memory at first and after each access) and S_y = T.

    Args:
      access_rate: rho, the share of steps that access the memory.
      boundary_rate: beta, the share of steps that end a segment.
      Sizes as of `SANTM`.

    Raises:
      ArgumentError: a size below 1, a rate outside [0, 1], attention heads that do not divide W.

    >>> full, sparse = (santm(1, 32, 784, access_rate=rho) for rho in (1, 0.25))
    >>> sparse.accesses / full.accesses, round(sparse.flops / full.flops, 2)
    (0.25, 0.42)
    """
    memory = memory_slots * slot_width
    recall = (cheb_attention(memory_slots, slot_width, attention_heads, cheb_order, locality)
              + Cost((2 * read_heads + 1) * memory))
    readout = _dense(2 * units + (read_heads + 1) * slot_width, units)
    accesses = access_rate * steps
    return (steps * segment_lstm(features, units) + boundary_rate * steps * cascade_lstm(units, units)
            + accesses * memory_step(units, units, memory_slots, slot_width, read_heads, write_heads,
                                     shift_range)
            + (1 + accesses if return_sequences else 1) * recall
            + (steps if return_sequences else 1) * readout)


@_checked
def ntm(features, units, steps, memory_slots=32, slot_width=32, read_heads=1, write_heads=1, shift_range=1,
        return_sequences=False):
    """A sequence through the NTM, `T ntm_step + 2 (H + R W) H + H` FLOPs; the readout T times with sequences.

    >>> ntm(1, 32, steps=784).accesses == 784 * 2 * 32
    True
    """
    step = ntm_step(features, units, memory_slots, slot_width, read_heads, write_heads, shift_range)
    readout = _dense(units + read_heads * slot_width, units)
    return steps * step + (steps if return_sequences else 1) * readout


@_checked
def uw_ntm(features, units, steps, write_interval=None, memory_slots=32, slot_width=32, read_heads=1,
           write_heads=1, shift_range=1, return_sequences=False):
    """A sequence through an NTM with Uniform Writing (Le et al. 2019, arXiv 1901.01347).

    `D ntm_step(d) + (T - D) (lstm(d, H) + 4 H) + D 8 R W H + readout`, D = floor(T / L) writes: between
    them the controller alone moves, and what it takes from the vectors read is computed once.

    Args:
      write_interval: L, in steps (default: `max(1, floor(T / (N + 1)))`).
      The rest as of `ntm`.

    >>> uw_ntm(1, 32, steps=784, write_interval=1) == ntm(1, 32, steps=784)
    True
    """
    sizes = memory_slots, slot_width, read_heads, write_heads, shift_range
    writes = steps // _interval(write_interval, steps, memory_slots)
    between = steps - writes
    taken = writes if between else 0
    return (writes * ntm_step(features, units, *sizes)
            + between * (lstm(features, units) + Cost(4 * units))
            + taken * _dense(read_heads * slot_width, 4 * units, bias=False)
            + (steps if return_sequences else 1) * _dense(units + read_heads * slot_width, units))


def _interval(write_interval, steps, memory_slots):
    return write_interval or max(1, steps // (memory_slots + 1))


@_checked
def cuw_ntm(features, units, steps, write_interval=None, memory_slots=32, slot_width=32, read_heads=1,
            write_heads=1, shift_range=1, return_sequences=False):
    """A sequence through an NTM with Cached Uniform Writing (Le et al. 2019, section 2.2.2).

    `uw_ntm + D (2 H^2 (L + 1) + 2 R W H + (5 L + 1) H + 5 L)`: at each of the D writes an attention over
    the L states of the controller since the last one. Arguments as of `uw_ntm`.

    >>> cuw_ntm(1, 32, steps=784).accesses == uw_ntm(1, 32, steps=784).accesses
    True
    """
    interval = _interval(write_interval, steps, memory_slots)
    pick = (_dense(units, units, interval, bias=False) + _dense(units, 1, interval, bias=False)
            + _dense(units + read_heads * slot_width, units, bias=False)
            + Cost((3 * interval + 1) * units + 5 * interval) + _state(interval * units))
    return (uw_ntm(features, units, steps, interval, memory_slots, slot_width, read_heads, write_heads,
                   shift_range, return_sequences)
            + steps // interval * pick)


@_checked
def lnlstm(features, units, steps=1):
    """A sequence through a layer-normalised LSTM, `T (lstm + 65 H)` FLOPs (Ba et al. 2016, arXiv 1607.06450).

    `LN(x W)` and `LN(h U)` on 4 H numbers and `LN(c)` on H, each 9 a number; 16 H less than `lstm` for
    gates by one sigmoid operation, which counts nothing. Where Keras runs a norm as one fused operation
    the profiler sees only its scale and offset.

    >>> lnlstm(1, 32).flops - lstm(1, 32).flops == 65 * 32
    True
    """
    return steps * (lstm(features, units) + 2 * _norm(4 * units) + _norm(units) + Cost(-16 * units))


@_checked
def skip_lstm(features, units, steps, update_rate=1.0):
    """A sequence through a Skip LSTM, `u T (lstm + 8 H + 14)` FLOPs (Campos et al. 2018, arXiv 1708.06834).

    A skipped step costs nothing: when the state moves next is known at the step before.

    Args:
      update_rate: u, the share of steps that update the state.

    >>> skip_lstm(1, 32, steps=784, update_rate=0.5).flops / skip_lstm(1, 32, steps=784).flops
    0.5
    """
    step = lstm(features, units) + _dense(units, 1) + Cost(6 * units + 13) + _state(1)
    return update_rate * steps * step


@_checked
def dilated_lstm(features, units, steps, layers=3):
    """A sequence through a Dilated LSTM, `T (lstm(d, H) + (layers - 1) lstm(H, H))` (Chang et al. 2017).

    Whatever the dilations, if the first is 1: each layer runs over all steps.

    >>> dilated_lstm(1, 32, steps=784, layers=1) == lstm(1, 32, steps=784)
    True
    """
    return lstm(features, units, steps) + (layers - 1) * lstm(units, units, steps)


@_checked
def drr_lstm(features, units, steps, routes=4, rank=None):
    """A sequence through a DRR LSTM with k routes and maps of rank r (default H / 2). See `DRRLSTMCell`.

    `T (2 k (d + H) + 2 k + 6 k^2 + (4 k - 2) H + 2 r (d + H) + r + 8 r H + 24 H)` FLOPs: the router and its
    projection, the k states summed, the factors `P_x, P_h` and Q, the gates.

    >>> drr_lstm(1, 32, steps=1).flops < lstm(1, 32).flops
    True
    """
    rank = rank or max(1, units // 2)
    router = _dense(features + units, routes) + Cost(routes + 6 * routes ** 2 + (4 * routes - 2) * units)
    maps = _dense(features + units, rank, bias=False) + Cost(rank) + _dense(rank, 4 * units)
    return steps * (router + maps + Cost(20 * units) + _state(2 * routes * units))


@_checked
def transformer(features, units, steps, layers=6, attention_heads=4, feed_forward=None, patch=1):
    """A sequence through a pre-norm encoder (Vaswani et al. 2017, arXiv 1706.03762), S = T / patch tokens.

    A layer of width W, A heads and hidden width F (default 4 W):
    `8 S W^2 + 4 S W F`        Q, K, V and the output; the feed-forward part
    `4 S^2 W + 5 A S^2`        scores, softmax, values
    `22 S W + S F`             two norms, the queries' scale, residuals, biases
    and `(2 patch d + 12) S W` for the embedding with positions, the last norm and the mean. The state is
    a layer's keys and values. A causal encoder costs the same.

    Args:
      units: W.

    >>> round(transformer(1, 32, 784).flops / transformer(1, 32, 392).flops, 2)
    3.39
    """
    tokens, hidden = math.ceil(steps / patch), feed_forward or 4 * units
    attention = (_dense(units, 4 * units, tokens, bias=False)
                 + Cost((4 * units + 5 * attention_heads) * tokens ** 2 + tokens * units)
                 + _state(2 * tokens * units))
    feed = _dense(units, hidden, tokens) + _dense(hidden, units, tokens)
    layer = attention + feed + 2 * _norm(units, tokens) + Cost(2 * tokens * units)
    embedding = _dense(patch * features, units, tokens) + Cost(tokens * units)
    return embedding + layers * layer + _norm(units, tokens) + Cost(tokens * units)


@_checked
def mamba(features, units, steps, layers=2, state_size=16, conv_width=4, expand=2, chunk_length=64):
    """A sequence through Mamba (Gu and Dao 2023, arXiv 2312.00752). See `MambaBlock` and `selective_scan`.

    A step of a block, E = expand W features of N states, r = ceil(W / 16):
    `6 W E + 2 E (r + 2 N) + 2 r E`   maps in and out, to the step size, B and C, and back
    `6 N E`                           `h = exp(delta A) h + delta B x`, `y = C h`
    `(2 J + 10) E + 5 W`              a convolution over J steps, gates; norm and residual
    In C = ceil(T / chunk_length) chunks side by side, where that is more than two, `4 N E` a step more and
    `3 N E C ceil(log2 C)`. Then `(2 d + 1) T W` for the embedding and 4 W for the last norm. The state is
    a block's N E.

    Args:
      units: W.
      chunk_length: None for step by step.

    >>> mamba(1, 32, 784).flops > mamba(1, 32, 784, chunk_length=None).flops
    True
    """
    inner, rank, states = expand * units, math.ceil(units / 16), state_size * expand * units
    maps = (_dense(units, 2 * inner, steps, bias=False) + _dense(rank, inner, steps)
            + _dense(inner, rank + 2 * state_size + units, steps, bias=False))
    around = Cost(((2 * conv_width + 9) * inner + 5 * units) * steps,
                  bytes=4 * ((conv_width + 2) * inner + states + units))
    scan = steps * (Cost(6 * states) + _state(states))
    if chunk_length and steps > 2 * chunk_length:
        chunks = math.ceil(steps / chunk_length)
        scan += steps * (Cost(4 * states) + _state(states)) \
            + Cost(3 * states * chunks * math.ceil(math.log2(chunks)))
    return _dense(features, units, steps) + layers * (maps + around + scan) + Cost(4 * units, bytes=4 * units)
