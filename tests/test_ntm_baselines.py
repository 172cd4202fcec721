"""The Neural Turing Machine and its uniform writers against NumPy in float64 and PyTorch."""

from types import SimpleNamespace

import numpy as np
import pytest
import reference
import tensorflow as tf

from benchmarks.ntm import torch_ntm
from santm_tf import Recurrent, baselines
from santm_tf.baselines.cuw_ntm import CachedUniformWritingNTM
from santm_tf.baselines.ntm import NTM
from santm_tf.baselines.uw_ntm import UniformWritingNTM, optimal_interval
from santm_tf.keras import keras
from tests.helpers import name_of, random, randomise

SIZES = {"memory_slots": 5, "slot_width": 3}
WRITERS = [UniformWritingNTM, CachedUniformWritingNTM]
writers = pytest.mark.parametrize("kind", WRITERS)


def built(kind, *, features=2, dtype="float64", **arguments):
    """With random weights that put every term to use."""
    layer = kind(4, dtype=dtype, **{"jit_compile": False, "memory_init": "learned", **SIZES, **arguments})
    layer.build([None, None, features])
    randomise(layer.weights, 0.8)
    return layer


def naive(layer, x):
    """One sequence `[T, d]` step by step by the papers' equations: y at every step."""
    cell, readout = layer.recurrent.cell, reference.weights(layer.readout)
    w, state = reference.weights(cell), reference.first_state(cell)
    interval, cache, rows = getattr(layer, "write_interval", 1), [], []
    for t, x_t in enumerate(x, 1):
        cache.append(state.h)
        if t % interval == 0:
            if isinstance(layer, CachedUniformWritingNTM):
                state.h = attended(w, cache, state.read.ravel())
            state, cache = reference.ntm(cell, x_t, state), []
        else:
            kernel = np.concatenate([w.kernel, w.recurrent_kernel[cell.units:]])
            state.h, state.c = reference.lstm(
                np.concatenate([x_t, state.read.ravel()]), state.h, state.c, SimpleNamespace(
                    kernel=kernel, recurrent_kernel=w.recurrent_kernel[:cell.units], bias=w.bias))
        rows.append(np.concatenate([state.h, state.read.ravel()]) @ readout.kernel + readout.bias)
    return np.array(rows)


def attended(w, cache, read):
    scores = [w.score_kernel[:, 0] @ np.tanh(
        w.state_kernel.T @ cache[-1] + w.cache_kernel.T @ d + w.read_kernel.T @ read) for d in cache]
    return sum(alpha * d for alpha, d in zip(reference.softmax(np.array(scores)), cache, strict=True))


@pytest.mark.parametrize("kind, interval", [
    (NTM, None), *[(kind, n) for kind in WRITERS for n in (1, 2, 3, 7)]])
@pytest.mark.parametrize("memory_init", ["constant", "learned"])
def test_it_is_its_equations(kind, interval, memory_init):
    given = {} if interval is None else {"write_interval": interval}
    layer = built(kind, return_sequences=True, read_heads=2, write_heads=2, memory_init=memory_init, **given)
    x = random(2, 6, 2, seed=9)
    y = layer(tf.constant(x))
    for row in range(2):
        np.testing.assert_allclose(y[row], naive(layer, x[row]), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("kind", [NTM, *WRITERS])
def test_the_last_step_is_the_sequences_last_and_compiled_the_same(kind):
    given = {} if kind is NTM else {"write_interval": 3}
    layers = [built(kind, dtype="float32", return_sequences=every, jit_compile=not every, **given)
              for every in (True, False)]
    x = tf.constant(random(16, 5, 2), tf.float32)  # enough rows for two slices of the batch
    sequences, last = (layer(x) for layer in layers)
    np.testing.assert_allclose(last, sequences[:, -1], atol=1e-5)


@pytest.mark.parametrize("kind, steps, run", [
    (UniformWritingNTM, 7, "jit"), (CachedUniformWritingNTM, 6, "jit"),
    (CachedUniformWritingNTM, 7, "function"), (CachedUniformWritingNTM, 2, "eager")])
def test_gradients_through_the_nested_loops_match_finite_differences(kind, steps, run):
    layer = built(kind, write_interval=3, return_sequences=True)
    x, target = tf.constant(random(1, steps, 2, seed=9)), random(steps, 4, seed=8)

    def gradients(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(layer(x) * target)
        return tape.gradient(loss, [x, *layer.trainable_weights])

    if run != "eager":
        gradients = tf.function(gradients, jit_compile=run == "jit")
    exact, start = gradients(x), layer.get_weights()
    for i, gradient in enumerate(exact):
        direction, ends = random(*gradient.shape, seed=i), []
        for step in (1e-5, -1e-5):
            moved = [v + step * direction if j == i else v for j, v in enumerate([x.numpy(), *start])]
            layer.set_weights(moved[1:])
            ends.append((naive(layer, moved[0][0]) * target).sum())
        layer.set_weights(start)
        slope = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(tf.reduce_sum(gradient * direction), slope, rtol=1e-5, atol=1e-8)


def test_gradients_do_not_depend_on_how_the_loop_is_cut():
    """Keras' own loop over the blocks, whose gradient is automatic differentiation's."""
    layer = built(CachedUniformWritingNTM, write_interval=2)
    blocks = tf.constant(random(2, 3, 2, 2))
    results = []
    theirs = keras.layers.RNN(layer.recurrent.cell, return_sequences=True, dtype="float64")
    for loop in (layer.recurrent, theirs):
        with tf.GradientTape() as tape:
            y = loop(blocks)
            loss = tf.reduce_sum(tf.sin(3 * y))
        results.append([y, *tape.gradient(loss, layer.recurrent.cell.trainable_weights)])
    for ours, theirs in zip(*results, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-10)


def test_a_wide_input_is_projected_ahead_of_the_loop():
    layer = built(UniformWritingNTM, write_interval=3, return_sequences=True, features=200)
    x = random(1, 7, 200) / 10
    np.testing.assert_allclose(layer(tf.constant(x))[0], naive(layer, x[0]), atol=1e-10)


@writers
def test_writing_at_every_step_is_the_ntm(kind):
    layer, ntm = built(kind, write_interval=1, return_sequences=True), built(NTM, return_sequences=True)
    ours = {name_of(w): w for w in layer.weights}
    ntm.set_weights([ours[name_of(w)].numpy() for w in ntm.weights])
    x = tf.constant(random(2, 9, 2))
    np.testing.assert_allclose(layer(x), ntm(x), atol=1e-12)


def reads(layer, x):
    """The vectors read at every step, which is all that this readout lets through."""
    width = layer.recurrent.cell.slot_width
    layer.readout.set_weights([np.eye(4 + width, 4, k=-4), np.zeros(4)])
    return layer(tf.constant(x)).numpy()[..., :width]


@writers
def test_what_is_read_changes_at_the_writes_and_nowhere_else(kind):
    r = reads(built(kind, write_interval=3, return_sequences=True), random(2, 11, 2))[0]
    changes = [t for t in range(2, 12) if np.any(r[t - 1] != r[t - 2])]
    assert changes == [3, 6, 9]


@writers
@pytest.mark.parametrize("step", [1, 3, 4, 8])
def test_an_input_is_seen_in_the_reads_from_the_next_write_on(kind, step):
    layer = built(kind, write_interval=3, return_sequences=True)
    x = random(1, 10, 2)
    moved = x.copy()
    moved[0, step - 1] += 1
    differ = np.any(reads(layer, x) != reads(layer, moved), -1)[0]
    write = -(-step // 3) * 3
    assert differ.tolist() == [t >= write for t in range(1, 11)]


def test_the_cache_is_emptied_at_a_write():
    """With a cell that forgets at once, only a cache that is not emptied would carry older inputs on."""
    layer = built(CachedUniformWritingNTM, write_interval=3, return_sequences=True)
    cell = layer.recurrent.cell
    cell.recurrent_kernel.assign(np.zeros(cell.recurrent_kernel.shape))
    cell.bias.assign(np.repeat([0.0, -1e3, 0.0, 0.0], 4))
    layer.readout.set_weights([np.eye(7, 4), np.zeros(4)])  # h alone
    x = random(1, 9, 2)
    moved = x.copy()
    moved[0, 1] += 1
    differ = np.any(layer(tf.constant(x)).numpy() != layer(tf.constant(moved)).numpy(), -1)[0]
    assert differ.tolist() == [t == 2 for t in range(1, 10)]


@writers
@pytest.mark.parametrize("sequences", [True, False])
@pytest.mark.parametrize("where", ["end", "start", "everywhere"])
def test_padding_leaves_no_trace(kind, sequences, where):
    layer = built(kind, write_interval=3, return_sequences=sequences)
    x, lengths, rng = random(4, 11, 2), [11, 7, 1, 6], np.random.default_rng(1)
    mask = np.zeros([4, 11], bool)
    for row, length in zip(mask, lengths, strict=True):
        valid = {"end": range(length), "start": range(11 - length, 11),
                 "everywhere": sorted(rng.permutation(11)[:length])}[where]
        row[list(valid)] = True
    y = layer(tf.constant(np.where(mask[..., None], x, 1e3)), mask=tf.constant(mask)).numpy()
    for b in range(4):
        alone = layer(tf.constant(x[b:b + 1, mask[b]]))[0]
        np.testing.assert_allclose(y[b][mask[b]] if sequences else y[b], alone, atol=1e-12)
        if sequences:  # between valid steps the output of the last is repeated
            for t in range(1, 11):
                if not mask[b, t]:
                    np.testing.assert_array_equal(y[b, t], y[b, t - 1])


def test_a_sequence_that_is_all_padding_gives_the_readout_of_zeros():
    layer = built(UniformWritingNTM, write_interval=2)
    y = layer(tf.constant(random(1, 5, 2)), mask=tf.zeros([1, 5], tf.bool))
    np.testing.assert_allclose(y[0], layer.readout.bias)


@writers
def test_sizes_unknown_until_the_call(kind):
    layer = built(kind, write_interval=3, dtype="float32")
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 2])])
    for batch, steps in ((2, 7), (3, 2), (1, 6)):
        x = tf.constant(random(batch, steps, 2), tf.float32)
        np.testing.assert_allclose(run(x), layer(x), atol=1e-6)


@pytest.mark.parametrize("steps, slots, interval", [
    (784, 15, 49), (64, 15, 4), (64, 32, 1), (10, 32, 1), (50, 4, 10)])
def test_the_optimal_interval_is_the_papers(steps, slots, interval):
    assert optimal_interval(steps, slots) == interval
    layer = UniformWritingNTM(4, memory_slots=slots)
    layer.build([None, steps, 1])
    assert layer.write_interval == layer.get_config()["write_interval"] == interval


@pytest.mark.parametrize("steps, slots", [(12, 3), (9, 2)])
@pytest.mark.parametrize("decay", [0.3, 0.9, 1.0])
def test_equal_intervals_maximise_the_papers_bound(steps, slots, decay):
    """Theorem 3 by brute force over all schedules of `slots` writes (equation 6)."""
    def bound(writes):
        return sum(decay ** n for length in np.diff([0, *writes, steps]) for n in range(length))

    interval = optimal_interval(steps, slots)
    uniform = bound([interval * (n + 1) for n in range(slots)])
    schedules = np.array(np.meshgrid(*[range(1, steps)] * slots)).reshape(slots, -1).T
    assert uniform >= max(bound(s) for s in schedules if np.all(np.diff(s) > 0)) - 1e-12


@writers
def test_an_unknown_length_is_named(kind):
    with pytest.raises(ValueError, match="write_interval=None: the length .* unknown") as error:
        kind(4, **SIZES)(keras.Input([None, 2]))
    assert "\n" not in str(error.value)


@writers
@pytest.mark.parametrize("interval", [0, -2])
def test_a_bad_interval_is_named(kind, interval):
    with pytest.raises(ValueError, match=f"{kind.__name__}: write_interval={interval}; .* at least 1"):
        kind(4, interval)


def test_dropout_is_of_the_features_and_only_in_training():
    layer = built(NTM, dropout=0.5, dtype="float32")
    x = tf.constant(random(2, 3, 2), tf.float32)
    np.testing.assert_array_equal(layer(x), layer(x))
    assert np.any(layer(x, training=True) != layer(x))


OPTIONS = dict(units=4, memory_slots=6, slot_width=3, read_heads=2)


@pytest.mark.parametrize("module, layer", [
    (baselines.ntm, NTM), (baselines.uw_ntm, UniformWritingNTM),
    (baselines.cuw_ntm, CachedUniformWritingNTM)])
def test_make_takes_the_options(module, layer):
    made = module.make(**OPTIONS, steps=28, return_sequences=True)
    assert type(made) is layer and made.return_sequences
    cell = made.recurrent.cell
    assert (cell.units, cell.memory_slots, cell.slot_width, cell.read_heads) == (4, 6, 3, 2)
    assert cell.memory_init == "constant" and cell.memory_horizon == 28
    assert getattr(made, "write_interval", 4) == 4
    interval = {} if layer is NTM else {"write_interval": 5}
    made = module.make(**OPTIONS, memory_init="learned", memory_horizon=9, **interval)
    assert made.recurrent.cell.memory_init == "learned" and made.recurrent.cell.memory_horizon == 9
    assert getattr(made, "write_interval", 5) == 5
    if layer is not NTM:
        with pytest.raises(ValueError, match="write_interval=None"):
            module.make(**OPTIONS)


@pytest.mark.parametrize("read_heads, write_heads, shift_range", [(1, 1, 1), (2, 3, 2)])
def test_the_cell_is_the_benchmarks_pytorch_ntm(read_heads, write_heads, shift_range):
    torch = pytest.importorskip("torch")
    layer = built(NTM, read_heads=read_heads, write_heads=write_heads, shift_range=shift_range,
                  memory_init="constant")
    cell = layer.recurrent.cell
    x = random(3, 6, 2)
    with tf.GradientTape() as tape:
        y = Recurrent(cell, return_sequences=True, dtype="float64")(tf.constant(x))
        loss = tf.reduce_sum(tf.sin(3 * y))
    ours = tape.gradient(loss, cell.trainable_weights)
    w = {name_of(v).split("/")[-1]: torch.tensor(v.numpy(), requires_grad=True)
         for v in cell.trainable_weights}
    theirs = torch_ntm(torch.tensor(x), w)
    torch.sin(3 * theirs).sum().backward()
    np.testing.assert_allclose(y, theirs.detach(), atol=1e-10)
    for gradient, v in zip(ours, w.values(), strict=True):
        np.testing.assert_allclose(gradient, v.grad, atol=1e-8)
