"""The cost formulas against TensorFlow's profiler, on the graphs of the layers themselves."""

import functools
import operator
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from santm_tf import (
    SANTM,
    CascadeLSTMCell,
    ChebAttention,
    MemoryCell,
    NTMCell,
    Recurrent,
    SegmentCell,
    SegmentLSTMCell,
    baselines,
)
from santm_tf.analysis import cost
from santm_tf.baselines import (
    cuw_ntm,
    dilated_lstm,
    drr_lstm,
    lnlstm,
    mamba,
    ntm,
    skip_lstm,
    transformer,
    uw_ntm,
)
from santm_tf.baselines.cuw_ntm import CachedUniformWritingNTM
from santm_tf.baselines.dilated_lstm import DilatedLSTM
from santm_tf.baselines.drr_lstm import DRRLSTMCell
from santm_tf.baselines.lmu import LMUCell
from santm_tf.baselines.mamba import Mamba
from santm_tf.baselines.ntm import NTM
from santm_tf.baselines.skip_lstm import SkipLSTMCell
from santm_tf.baselines.transformer import Transformer
from santm_tf.baselines.uw_ntm import UniformWritingNTM
from santm_tf.change import ChangeBoundary
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.sparse.cell import SparseMemoryCell
from santm_tf.sparse.recency import Recency
from santm_tf.sparse.ring import GROUP, Ring

D, H = 8, 32
SMALL = dict(slot_width=16, read_heads=2, write_heads=2, shift_range=2)
CELLS = {
    # So narrow that what is not a product weighs more than 5 %.
    "segment_lstm of one unit": (lambda: SegmentLSTMCell(1), 1, cost.segment_lstm(1, 1)),
    "cascade_lstm of one unit": (lambda: CascadeLSTMCell(1), (1, 1), cost.cascade_lstm(1, 1)),
    "skip_lstm of one unit": (lambda: SkipLSTMCell(1), 1, skip_lstm.cost(1, 1, steps=1)),
    "segment_lstm": (lambda: SegmentLSTMCell(H), D, cost.segment_lstm(D, H)),
    "cascade_lstm": (lambda: CascadeLSTMCell(H), (H, 1), cost.cascade_lstm(H, H)),
    "ntm_step": (lambda: NTMCell(H), D, cost.ntm_step(D, H)),
    "ntm_step, two heads each": (lambda: NTMCell(H, **SMALL), D, cost.ntm_step(D, H, **SMALL)),
    "memory_step": (lambda: MemoryCell(H), (H, 1), cost.memory_step(H, H)),
    "skip_lstm": (lambda: SkipLSTMCell(H), D, skip_lstm.cost(D, H, steps=1)),
    "lmu": (lambda: LMUCell(H), D, cost.lmu(D, H)),
    "lmu, two signals": (lambda: LMUCell(H, 16, memory_d=2), D, cost.lmu(D, H, order=16, memory_d=2)),
    "segment_lmu": (lambda: SegmentCell(LMUCell(H, 16, recurrent=False)), D, cost.segment_lmu(D, H, 16)),
    "drr_lstm": (lambda: DRRLSTMCell(H), D, drr_lstm.cost(D, H, steps=1)),
}
PLAIN = dict(jit_compile=False)


def at_centre():
    attention = ChebAttention()
    attention.build([None, 100, 32])
    return attention.at_centre


LAYERS = {
    "lstm": (lambda: Recurrent(keras.layers.LSTMCell(H)), [4, D], cost.lstm(D, H, 4)),
    "lstm of one unit": (lambda: Recurrent(keras.layers.LSTMCell(1)), [4, 1], cost.lstm(1, 1, 4)),
    "dilated_lstm": (lambda: DilatedLSTM(H), [4, D], dilated_lstm.cost(D, H, 4)),
    "ntm": (lambda: NTM(H, return_sequences=True, **PLAIN), [4, D],
            ntm.cost(D, H, 4, return_sequences=True)),
    "uw_ntm": (lambda: UniformWritingNTM(H, 4, **PLAIN), [8, D], uw_ntm.cost(D, H, 8, write_interval=4)),
    "cuw_ntm": (lambda: CachedUniformWritingNTM(H, 4, **PLAIN), [8, D],
                cuw_ntm.cost(D, H, 8, write_interval=4)),
    "transformer": (lambda: Transformer(H, layers=2), [64, D], transformer.cost(D, H, 64, layers=2)),
    "transformer, patches": (lambda: Transformer(H, layers=1, patch=4, feed_forward=16), [30, D],
                             transformer.cost(D, H, 30, layers=1, patch=4, feed_forward=16)),
    "mamba": (lambda: Mamba(H, **PLAIN), [4, D], mamba.cost(D, H, 4)),
    "mamba, chunks": (lambda: Mamba(H, layers=1, chunk_length=8, **PLAIN), [24, D],
                      mamba.cost(D, H, 24, layers=1, chunk_length=8)),
    "change_boundary": (lambda: ChangeBoundary(), [100, D], 100 * cost.change_boundary(D)),
    "change_boundary, one feature": (lambda: ChangeBoundary(), [100, 1], 100 * cost.change_boundary(1)),
    "cheb_attention": (lambda: ChebAttention(), [32, 32], cost.cheb_attention(32, 32)),
    "cheb_attention, one term": (lambda: ChebAttention(order=1), [32, 32],
                                 cost.cheb_attention(32, 32, cheb_order=1)),
    "cheb_attention, one slot": (lambda: at_centre(), [25, 32], cost.cheb_attention(25, 32, wanted=1)),
    "cheb_attention, banded": (lambda: ChebAttention(2, 4, 2, feed_forward=8), [64, 16],
                               cost.cheb_attention(64, 16, 2, 4, 2, feed_forward=8)),
}


def unrolled(step, inputs, state, *, constants=(), mask=None, steps=None):
    """`scan` without a loop, whose body the profiler would count once."""
    constants = () if isinstance(constants, tuple) and not constants else (constants,)
    outputs = []
    for t in range(tf.nest.flatten(inputs)[0].shape[0]):
        y, new = step(tf.nest.map_structure(operator.itemgetter(t), inputs), state, *constants)
        state = tf.nest.pack_sequence_as(state, tf.nest.flatten(new))
        outputs.append(y)
    return tf.nest.map_structure(lambda *v: tf.stack(v), *outputs), state


def unrolled_rows(choose, step, inputs, state, memory, index=(), steps=None):
    """`scan_rows` without a loop, for one sequence, and without a gradient."""
    outputs, watched = [], []
    for t in range(inputs[0].shape[0]):
        x = tf.nest.map_structure(operator.itemgetter(t), inputs)
        reads, writes, watch, index = choose(x, state, memory, index)
        y, state, new = step(x, state, [memory.at(v) for v in reads], memory.at(writes), reads, writes)
        at = t * writes.shape[1] + tf.range(writes.shape[1])
        written = tf.tensor_scatter_nd_update(memory.written, at[:, None], new[0])
        holds = tf.tensor_scatter_nd_update(memory.holds, writes[0, :, None], memory.initial.shape[0] + at)
        memory = memory._replace(written=written, holds=holds)
        outputs.append(y)
        watched.append(tf.gather(memory.holds, watch))
    return tf.nest.map_structure(lambda *v: tf.stack(v), *outputs), tf.stack(watched), state, memory, index


@pytest.fixture
def countable(monkeypatch):
    """Layers by operations that the profiler knows: no loops over time, and no Einsum."""
    monkeypatch.setattr(sys.modules["santm_tf.sparse.cell"], "scan_rows", unrolled_rows)
    monkeypatch.setattr(Recency, "_refilled", lambda self: self)  # a loop over whole numbers
    for module in ("santm_tf.levels", "santm_tf.memory", "santm_tf.recurrent", "santm_tf.baselines.uw_ntm",
                   "santm_tf.baselines.associative_scan"):
        monkeypatch.setattr(sys.modules[module], "scan", unrolled)
    # Over so few chunks it is small; as it stands it is a loop.
    associative = sys.modules["santm_tf.baselines.associative_scan"]
    monkeypatch.setattr(associative, "linear_recurrence", lambda a, b: b)
    monkeypatch.setattr(tf, "einsum", lambda equation, x, y: (
        tf.tensordot(x, y, 1) if equation.startswith("bnw,w") else tf.matmul(x, y)))


def counted(function, *specs):
    """FLOPs of a function by TensorFlow's profiler, all calls inlined."""
    if isinstance(function, keras.layers.Layer):
        function.build(specs[0].shape)  # built while it is traced, it would be traced twice
    graph = convert_variables_to_constants_v2(tf.function(function).get_concrete_function(*specs)).graph
    for operation in graph.get_operations():
        assert not any(kind in operation.type for kind in ("While", "Enter", "Call", "Einsum", "FusedBatch"))
        assert all(v.shape.is_fully_defined() for v in operation.outputs), operation.name
    builder = tf.compat.v1.profiler.ProfileOptionBuilder
    options = builder(builder.float_operation()).with_empty_output().build()
    return tf.compat.v1.profiler.profile(graph, options=options).total_float_ops


def counted_step(cell, features):
    """FLOPs of one step, and how many numbers the cell's state and its weights for a step are."""
    if not cell.built:
        shapes = tf.nest.map_structure(lambda size: [1, size], features)
        cell.build(shapes if isinstance(features, int) else list(shapes))
    specs = [tf.TensorSpec([1, *tf.TensorShape(size)]) for size in cell.state_size]
    inputs = tf.nest.map_structure(lambda size: tf.TensorSpec([1, size]), features)
    weights = sum(np.prod(v.shape) for v in cell.weights if "initial_" not in v.name)
    return counted(lambda x, s: cell(x, s), inputs, specs), sum(np.prod(s.shape) for s in specs), weights


@pytest.mark.parametrize("name", CELLS)
def test_a_step_costs_what_the_profiler_counts(name):
    make, features, expected = CELLS[name]
    flops, state, weights = counted_step(make(), features)
    np.testing.assert_allclose(expected.flops, flops, rtol=0.05)
    assert expected.bytes == 4 * weights + 8 * state


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_costs_what_the_profiler_counts(name, countable):
    make, shape, expected = LAYERS[name]
    np.testing.assert_allclose(expected.flops, counted(make(), tf.TensorSpec([1, *shape])), rtol=0.05)


def test_a_layer_normalised_step_costs_what_the_profiler_counts():
    cell = lnlstm.make(units=H).layers[0].cell
    cell.build([1, D])
    for norm in (cell.kernel_norm, cell.recurrent_norm, cell.state_norm):
        norm._fused = False  # the profiler counts nothing for Keras 2's fused operation
    flops, state, weights = counted_step(cell, D)
    np.testing.assert_allclose(lnlstm.cost(D, H).flops, flops, rtol=0.05)
    assert lnlstm.cost(D, H).bytes == 4 * weights + 8 * state


@pytest.mark.parametrize("name, state", [("transformer", 2 * 2 * 64 * H), ("mamba", 2 * 4 * 2 * H * 16)])
def test_what_is_computed_for_all_steps_reads_its_weights_once(name, state):
    make, shape, expected = LAYERS[name]
    layer = make()
    layer.build([1, *shape])
    assert expected.bytes == 4 * layer.count_params() + 8 * state


@pytest.mark.parametrize("options", [
    {}, SMALL, {"top_k": 8, "allocate": False}, {"memory_slots": 12}, {"memory_init": "learned"},
    {"search": "lsh"}], ids=str)
def test_a_step_of_a_sparse_memory_costs_what_the_profiler_counts(options, countable):
    sizes = {"memory_slots": 1000, "memory_init": "constant", **options}
    cell = SparseMemoryCell(H, **sizes)
    cell.build([[1, D], [1, 1]])
    flops = counted(lambda m, a: cell.run(m, a)[0].read, tf.TensorSpec([3, 1, D]), tf.TensorSpec([3, 1, 1]))
    np.testing.assert_allclose(3 * cost.sparse_memory_step(D, H, 3, **sizes).flops, flops, rtol=0.05)


@functools.cache
def counted_santm(rate, **options):
    layer = SANTM(H, access_rate=rate, jit_compile=False, **options)
    layer.report = lambda **_: None  # a metric's variables cannot be frozen
    return counted(layer, tf.TensorSpec([1, 2, D]))


@pytest.mark.parametrize("sequences", [False, True])
def test_santm_with_a_sparse_memory_costs_the_sum_of_its_levels(sequences, countable):
    memory = {"memory": "sparse", "memory_slots": 100, "top_k": 2}
    flops = counted_santm(1, return_sequences=sequences, **memory)
    expected = cost.santm(D, H, 2, 1, boundary_rate=1, return_sequences=sequences, **memory)
    np.testing.assert_allclose(expected.flops, flops, rtol=0.05)


@pytest.mark.parametrize("recall, reads_on", [("attention", False), ("read", False), ("read", True)])
def test_santm_with_keys_and_values_costs_the_sum_of_its_levels(recall, reads_on, countable, monkeypatch):
    """But for the search, a loop, whose scores are `2 (K + 1)` each."""
    monkeypatch.setattr(Ring, "best", lambda self, queries, keys, written, count: (
        tf.zeros([*queries.shape[:3], count], tf.int32), tf.ones([*queries.shape[:3], count], tf.bool)))
    memory = {"memory": "key_value", "memory_slots": 100, "top_k": 2, "key_width": 16, "recall": recall,
              "reads_on": reads_on}
    flops = counted_santm(1, return_sequences=True, **memory)
    expected = cost.santm(D, H, 2, 1, boundary_rate=1, return_sequences=True, **memory).flops
    np.testing.assert_allclose(expected - 2 * 2 * (16 + 1) * (2 + GROUP * 2), flops, rtol=0.05)


def test_a_sparse_memory_costs_the_same_whatever_its_slots():
    few, many = (cost.santm(D, H, 100, 0.5, memory="sparse", memory_slots=n) for n in (1000, 10**6))
    assert few == many
    assert few.accesses == 50 * 9  # four slots read, five written


@pytest.mark.parametrize("sequences", [False, True])
def test_santm_costs_the_sum_of_its_levels(sequences, countable):
    flops = {rate: counted_santm(rate, return_sequences=sequences) for rate in (1, 0.5)}
    # Unrolled, the middle level visits every step.
    expected = {rate: cost.santm(D, H, 2, rate, boundary_rate=1, return_sequences=sequences).flops
                for rate in flops}
    for rate, value in flops.items():
        np.testing.assert_allclose(expected[rate], value, rtol=0.05)
    np.testing.assert_allclose(expected[1] - expected[0.5], flops[1] - flops[0.5], rtol=0.05)


def test_only_sizes_and_rates_count(countable):
    learned = counted_santm(0.5, return_sequences=False)
    assert counted_santm(0.5, return_sequences=False, access="random", seed=3) == learned


def test_an_adaptive_access_costs_every_step_and_its_gate(countable):
    flops = counted_santm(0.5, access="adaptive", return_sequences=True)
    expected = cost.santm(D, H, 2, 0.5, boundary_rate=1, mask="adaptive", return_sequences=True)
    np.testing.assert_allclose(expected.flops, flops, rtol=0.05)
    every = cost.santm(D, H, 2, 1, boundary_rate=1, return_sequences=True)
    assert expected.accesses == every.accesses and expected.flops - every.flops == 2 * (4 * H + 1)


def test_santm_is_linear_in_both_rates():
    def at(access_rate, boundary_rate):
        return cost.santm(1, 32, 784, access_rate, boundary_rate)

    assert at(1, 0.25).flops - at(0.5, 0.25).flops == 392 * cost.memory_step(32, 32).flops
    assert at(0.5, 0.75).flops - at(0.5, 0.25).flops == 392 * cost.cascade_lstm(32, 32).flops
    assert at(0.5, 0.25).accesses == at(1, 0.25).accesses / 2
    assert at(0, 0.25).accesses == 0
    assert at(0.25, 0.25).bytes < at(0.5, 0.25).bytes < at(1, 0.25).bytes


def test_uniform_writing_saves_all_but_one_access_an_interval():
    every, some = ntm.cost(1, 32, 784), uw_ntm.cost(1, 32, 784, write_interval=28)
    assert some.accesses == every.accesses / 28
    assert some.flops < cuw_ntm.cost(1, 32, 784, write_interval=28).flops < every.flops


def test_every_model_has_its_formula():
    assert all(callable(baselines.load(name).cost) for name in baselines.NAMES)


@pytest.mark.parametrize("count, arguments, message", [
    (cost.santm, dict(access_rate=1.1), r"access_rate=1.1; it must be in \[0, 1\]"),
    (cost.santm, dict(access_rate=0.5, boundary_rate=-1), r"boundary_rate=-1; it must be in \[0, 1\]"),
    (cost.santm, dict(access_rate=float("nan")), r"access_rate=nan; it must be in \[0, 1\]"),
    (skip_lstm.cost, dict(update_rate=2), r"update_rate=2; it must be in \[0, 1\]"),
    (ntm.cost, dict(memory_slots=0), "memory_slots=0; it must be at least 1"),
    (ntm.cost, dict(shift_range=-1), "shift_range=-1; it must be at least 0"),
    (uw_ntm.cost, dict(write_interval=0), "write_interval=0; it must be at least 1"),
    (mamba.cost, dict(layers=0), "layers=0; it must be at least 1"),
    (transformer.cost, dict(patch=0), "patch=0; it must be at least 1"),
])
def test_what_cannot_be_is_named(count, arguments, message):
    where = f"{count.__module__.split('.')[-1]}.{count.__name__}"
    with pytest.raises(ArgumentError, match=f"^{where}: {message}$"):
        count(1, 32, 784, **arguments)


def test_heads_that_do_not_divide_the_width_are_named():
    with pytest.raises(ArgumentError, match="^cost.cheb_attention: attention_heads=5; .*slot_width=32$"):
        cost.santm(1, 32, 784, access_rate=0.5, attention_heads=5)


def test_boundaries_by_change_are_counted(countable):
    expected = cost.santm(D, H, 2, 1, boundary_rate=1, return_sequences=True, boundaries="change").flops
    learned = cost.santm(D, H, 2, 1, boundary_rate=1, return_sequences=True).flops
    assert expected - learned == 2 * cost.change_boundary(D).flops
    flops = counted_santm(1, return_sequences=True, boundaries="change")
    np.testing.assert_allclose(expected, flops, rtol=0.05)


def test_a_legendre_bottom_level_takes_the_place_of_the_lstm():
    sizes = dict(features=1, units=H, steps=10, access_rate=0.5)
    lmu = cost.santm(**sizes, controller="lmu", controller_order=16)
    expected = 10 * (cost.segment_lmu(1, H, 16).flops - cost.segment_lstm(1, H).flops)
    assert lmu.flops - cost.santm(**sizes).flops == pytest.approx(expected)
