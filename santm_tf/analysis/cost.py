"""What a model costs: FLOPs, memory accesses and bytes of one sequence's forward pass, from its sizes.

FLOPs are counted as TensorFlow's profiler counts them (`tensorflow/python/profiler/internal/
flops_registry.py`): a product `[m, k] [k, n]` is `2 m k n`; arithmetic on n numbers and a sum of n are n,
a softmax 5 n, a reciprocal root 2 n; exp, tanh, log-softmax and what only moves numbers are nothing.
What the profiler counts in the layers' own graphs is within 5 % of these formulas (tests/test_cost.py).

One sequence is counted: a level that is held costs nothing. Symbols, arguments and defaults are the layers':
d features, H units, N slots, W slot width, R read and V write heads, h both, s the furthest shift, T steps.
A level's function is one step; a model's is a sequence. Each baseline's file has its own, `cost`.
"""

from santm_tf.analysis.counting import Cost, checked, dense, state
from santm_tf.attention import SLOTS_PER_OFFSET
from santm_tf.errors import ArgumentError
from santm_tf.sparse.cell import EXACT_UP_TO
from santm_tf.sparse.ring import GROUP
from santm_tf.sparse.search import LOAD, MIN_ROOM, PROBES, TABLES, turns_of


@checked
def lstm(features, units, steps=1):
    """`T (8 H (d + H) + 28 H)` FLOPs (Hochreiter and Schmidhuber 1997): four maps, and 28 H around them.

    12 of the 28 H make four gates of one tanh (`santm_tf.lstm.lstm`).

    >>> lstm(1, 32).flops
    9344
    """
    return steps * (dense(features + units, 4 * units) + Cost(24 * units) + state(2 * units))


@checked
def segment_lstm(features, units):
    """A step of the bottom level, `lstm + 2 d + 3 H + 6` FLOPs: `u.x + v.c`, reset. See `SegmentLSTMCell`.

    >>> segment_lstm(1, 32).flops - lstm(1, 32).flops
    104
    """
    return lstm(features, units) + dense(features + units, 1) + Cost(units + 5)


@checked
def change_boundary(features):
    """A step of boundaries where the input changes, `4 d + 10` FLOPs. See `ChangeBoundary`.

    >>> change_boundary(40).flops
    170
    """
    return Cost(4 * features + 10, bytes=4 * 4) + state(features + 1)


@checked
def lmu(features, units, steps=1, order=64, memory_d=1, recurrent=True):
    """`T (2 M q (q + 1) + 2 H (d + M q + H) + 2 H)` FLOPs (Voelker et al. 2019): M memories of q numbers, h.

    And `2 d M` for what enters M memories of d features. See `baselines.lmu`.

    >>> lmu(1, 32, order=64).flops
    14592
    """
    memory = memory_d * order
    encoder = dense(features, memory_d, bias=False) if features != memory_d else Cost()
    step = (encoder + Cost(2 * memory * (order + 1), bytes=4 * order * (order + 1))
            + dense(features + memory + recurrent * units, units) + Cost(recurrent * units)
            + state(memory + recurrent * units))
    return steps * step


@checked
def segment_lmu(features, units, order=64):
    """A step of a bottom level whose cell is an `LMUCell` that is not recurrent: `lmu + 2 d + 3 q + 6` FLOPs.

    >>> segment_lmu(1, 32).flops - lmu(1, 32, recurrent=False).flops
    200
    """
    return (lmu(features, units, order=order, recurrent=False) + dense(features + order, 1)
            + Cost(order + 5) + state(units))


@checked
def cascade_lstm(features, units):
    """A step of the middle level, `lstm + 6 H` FLOPs: the state's gate by beta. See `CascadeLSTMCell`.

    >>> cascade_lstm(32, 32).flops - lstm(32, 32).flops
    192
    """
    return lstm(features, units) + Cost(6 * units)


@checked
def ntm_step(features, units, memory_slots=32, slot_width=32, read_heads=1, write_heads=1, shift_range=1):
    """A step of a Neural Turing Machine (Graves et al. 2014). See `NTMCell`.

    With E = h (W + 2 s + 4) + 2 V W numbers for the heads:
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
    return (lstm(features + read, units) + dense(units, outputs)
            + Cost(flops, accesses=heads * memory_slots) + state(read + heads * memory_slots + memory))


@checked
def memory_step(features, units, memory_slots=32, slot_width=32, read_heads=1, write_heads=1, shift_range=1):
    """An accessed step of the top level, `ntm_step + 3 (2 H + R W + h N) + V N` FLOPs: its state is gated.

    See `MemoryCell`.

    >>> memory_step(32, 32).accesses
    64
    """
    gated = 2 * units + read_heads * slot_width + (read_heads + write_heads) * memory_slots
    step = ntm_step(features, units, memory_slots, slot_width, read_heads, write_heads, shift_range)
    return step + Cost(3 * gated + write_heads * memory_slots)


@checked
def sparse_memory_step(features, units, steps, memory_slots=32, slot_width=32, read_heads=1, write_heads=1,
                       shift_range=1, top_k=4, allocate=True, memory_init="constant", search="auto"):
    """One of S accessed steps over a memory of which a head touches k slots. See `SparseMemoryCell`.

    A head reaches P = 2 k (2 s + 1) places; m = V (k + 1) rows are written, V k without `allocate`.
    The slots are chosen first and used then, each time by
    `lstm(d + R W, H) + 2 H E + 3 E`          controller; E = h (W + 2 s + 4) + 2 V W + V numbers for heads
    `h (4 P^2 + 7 P + (4 W + 13) k + 2 W)`    logits at the places reached
    Then there are
    `(5 V W + 4 W + 3 V k + 2 m) m`           rows erased and written, and their sum
    `2 R k W + 3 (2 H + R W + h k) + h k (P + 5 + 6 k)`   vectors read, the gated state, its weights
    and the search, see `slot_search`. Arithmetic on indices counts in the logits only.

    >>> sparse_memory_step(32, 32, 100, memory_slots=10**6).accesses
    9
    """
    heads, width, written = read_heads + write_heads, slot_width, write_heads * (top_k + allocate)
    outputs = heads * (width + 2 * shift_range + 4) + write_heads * (2 * width + allocate)
    control = lstm(features + read_heads * width, units) + dense(units, outputs) + Cost(2 * outputs)
    places = 2 * top_k * (2 * shift_range + 1)
    logits = heads * (4 * places ** 2 + 7 * places + (4 * width + 13) * top_k + 2 * width)
    search = slot_search(steps, memory_slots, width, read_heads, write_heads, top_k, allocate, memory_init,
                         search)
    carried = read_heads * width + heads * top_k
    flops = ((5 * write_heads * width + 4 * width + 3 * write_heads * top_k + 2 * written) * written
             + 2 * read_heads * top_k * width + 3 * (2 * units + carried)
             + heads * top_k * (places + 5 + 6 * top_k))
    return (control + Cost(control.flops + 2 * logits + flops, accesses=read_heads * top_k + written)
            + search + state(carried + written * width))


def slot_search(steps, memory_slots, slot_width, read_heads, write_heads, top_k, allocate, memory_init,
                search):
    """What a step of `sparse_memory_step` costs to find similar slots, where it looks at n rows.

    `h (2 W + 1) n + n`                        of a constant memory the n = S m + 1 rows that are written
    `h (2 W + 2 + 2 k) n + 16 r W^2 (h + m)`   hashed: those of 2^r buckets of 8 tables, by r rotations
    `(2 h + 3) W N + (2 h + 9) N`              all slots of a learned memory; W N more of one that is filled
    and `2 h k (W + 2 k) + 3 (k + m) W` for k slots that were never written, and for the index.
    """
    heads, width, written = read_heads + write_heads, slot_width, write_heads * (top_k + allocate)
    rows, constant = steps * written, memory_init == "constant"
    hashed = search == "lsh" or (search == "auto" and min(rows, memory_slots) > EXACT_UP_TO)
    if constant and hashed:
        turns = turns_of(width)
        looked = TABLES * PROBES ** turns * max(LOAD * (rows + 1) // (2 * width) ** turns, MIN_ROOM)
        flops = (heads * (2 * width + 2 + 2 * top_k) * looked
                 + 2 * TABLES * turns * width ** 2 * (heads + written))
    elif constant and steps * (read_heads * top_k + written) + top_k <= memory_slots:
        looked = rows + 1
        flops = heads * (2 * width + 1) * looked + looked
    else:
        looked = memory_slots
        flops = ((2 * heads + 3 + constant) * width + 2 * heads + 9) * looked
    unwritten = 2 * heads * top_k * (width + 2 * top_k) + 3 * (top_k + written) * width
    return Cost(flops + unwritten, bytes=4 * width * looked)


@checked
def key_value_segment(features, rows, memory_slots=1024, slot_width=32, read_heads=1, key_width=None,
                      top_k=4, reads_on=False):
    """One segment of a memory of keys and values that gets M rows a sequence. See `KeyValueMemoryCell`.

    `2 d (R K + W + 1)`        keys, value and strength
    `2 R (K + 1) (M + 8 k)`    scores of all rows, also those not there yet, and again of k groups of 8
    `R k (4 R K + 10) + 3 R K` the rows found and their weights; a unit key
    `2 d R + 10 R k`           whether heads read on, and where

    >>> key_value_segment(64, 100).accesses
    5
    """
    heads, keys = read_heads, key_width or slot_width
    row = heads * keys + slot_width + 1
    flops = (2 * heads * (keys + 1) * (rows + GROUP * top_k) + heads * top_k * (4 * heads * keys + 10)
             + 3 * heads * keys)
    if reads_on:
        flops += 2 * features * heads + 10 * heads * top_k
    return (dense(features, row) + Cost(flops, accesses=heads * top_k + 1,
                                        bytes=4 * row * min(rows, memory_slots)))


@checked
def cheb_attention(memory_slots, slot_width, attention_heads=4, cheb_order=3, locality=4, feed_forward=None,
                   wanted=None):
    """The recall's attention over N slots: A heads, order K, hidden width F. See `ChebAttention`.

    `8 N W^2 + 2 K N W^2 / A + 4 N W F`   the maps Q, K_, V_, W_o; Theta; the feed-forward block
    `2 K N^2 W + 4 A N^2`                 E, and G x for each order above 0 (nothing for K = 1)
    `(4 K + 1) N W + N F`                 Chebyshev terms, residuals, biases
    The banded form has `4 K l N W + 3 A l N` in place of the second line, l the locality.

    Args:
      wanted: of how many slots the output is wanted, by the banded form (default: all).

    Raises:
      ArgumentError: sizes below 1, or heads that do not divide W.

    >>> cheb_attention(32, 32).flops
    669696
    """
    if slot_width % attention_heads:
        raise ArgumentError(f"cost.cheb_attention: attention_heads={attention_heads}; "
                            f"it must divide slot_width={slot_width}")
    numbers, hidden, outputs = memory_slots * slot_width, feed_forward or slot_width, wanted or memory_slots
    maps = (dense(slot_width, 3 * slot_width, memory_slots, bias=False)
            + dense(slot_width, slot_width, outputs, bias=False)
            + cheb_order * dense(slot_width // attention_heads, slot_width, outputs, bias=False))
    feed = dense(slot_width, hidden, outputs) + dense(hidden, slot_width, outputs)
    if wanted or memory_slots > SLOTS_PER_OFFSET * locality:
        graph = (4 * cheb_order * slot_width + 3 * attention_heads) * locality * memory_slots
    else:
        graph = (2 * cheb_order * slot_width + 4 * attention_heads) * memory_slots ** 2
    graph *= cheb_order > 1
    return maps + feed + Cost(graph + 4 * cheb_order * numbers, bytes=4 * numbers)


@checked
def santm(features: int, units: int, steps: int, access_rate: float, boundary_rate: float = 0.25,
          memory_slots: int = 32, slot_width: int = 32, read_heads: int = 1, write_heads: int = 1,
          shift_range: int = 1, attention_heads: int = 4, cheb_order: int = 3, locality: int = 4,
          return_sequences: bool = False, memory: str = "dense", memory_init: str | None = None,
          top_k: int | None = None, allocate: bool = True, search: str = "auto",
          key_width: int | None = None, reads_on: bool = False, recall: str = "attention",
          controller: str = "lstm", controller_order: int = 64, mask: str = "learned",
          boundaries: str = "learned") -> Cost:
    """A sequence through SANTM (Shan et al. 2025; see `SANTM`): each level as often as it acts.

    `T segment_lstm(d) + beta T cascade_lstm(H) + rho T memory_step(H) + S recall + S_y readout`

    `recall = cheb_attention + 2 R N W + N W`, `readout = 2 (2 H + (R + 1) W) H + H`; S = S_y = 1, or with
    return_sequences S = 1 + rho T (the memory at first and after each access) and S_y = T. A sparse memory
    has `sparse_memory_step`, one of keys and values a gate a step and `key_value_segment`. They recall R k
    slots, each from those within its reach. A bottom level that is an "lmu" has `segment_lmu`. Boundaries by
    "change" add `change_boundary`; what learned ones cost is always counted.

    Args:
      access_rate: rho, the share of steps that access the memory.
      boundary_rate: beta, the share of steps that end a segment.
      mask: an "adaptive" access visits every step, at any rate, and has a gate, `T dense(2 H, 1)`.

    Raises:
      ArgumentError: a size below 1, a rate outside [0, 1], attention heads that do not divide W.

    >>> full, sparse = (santm(1, 32, 784, access_rate=rho) for rho in (1, 0.25))
    >>> sparse.accesses / full.accesses, round(sparse.flops / full.flops, 2)
    (0.25, 0.42)
    """
    adaptive = mask == "adaptive"
    accesses = steps if adaptive else access_rate * steps
    sizes = memory_slots, slot_width, read_heads, write_heads, shift_range
    graph = attention_heads, cheb_order, locality

    def recall_of(top_k):
        """Of the k slots that each head reads."""
        if recall == "read":
            return Cost(read_heads * top_k * 2 * slot_width)
        reach = cheb_order * locality if cheb_order > 1 else 0
        slot = cheb_attention(2 * reach + 1, slot_width, *graph, wanted=1)
        return Cost(read_heads * top_k * (slot.flops + 2 * slot_width), bytes=slot.bytes)

    if memory == "sparse":
        top_k = top_k or 4
        step = sparse_memory_step(units, units, max(accesses, 1), *sizes, top_k, allocate,
                                  memory_init or "constant", search)
        spent = recall_of(top_k)
    elif memory == "key_value":
        top_k = top_k or 4
        rows = min(accesses, boundary_rate * steps)
        segment = key_value_segment(2 * units, max(rows, 1), memory_slots, slot_width, read_heads, key_width,
                                    top_k, reads_on)
        step = (dense(2 * units, read_heads * slot_width) + Cost(3 * read_heads * slot_width)
                + rows / max(accesses, 1) * segment)
        spent = recall_of(top_k * (1 + reads_on))
    else:
        step = memory_step(units, units, *sizes)
        spent = Cost(2 * read_heads * memory_slots * slot_width) if recall == "read" else (
            cheb_attention(memory_slots, slot_width, *graph)
            + Cost((2 * read_heads + 1) * memory_slots * slot_width))
    mean = recall != "read" and memory != "key_value"
    readout = dense(2 * units + (read_heads + mean) * slot_width, units)
    bottom = (segment_lstm(features, units) if controller == "lstm"
              else segment_lmu(features, units, controller_order))
    if boundaries == "change":
        bottom += change_boundary(features)
    gate = dense(2 * units, 1) if adaptive else Cost()
    return (steps * (bottom + gate) + boundary_rate * steps * cascade_lstm(units, units)
            + accesses * step + (1 + accesses if return_sequences else 1) * spent
            + (steps if return_sequences else 1) * readout)
