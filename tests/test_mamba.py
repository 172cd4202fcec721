"""The linear recurrence, the selective scan and Mamba against NumPy and the PyPI package mambapy."""

import hypothesis.extra.numpy as arrays
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf.baselines.associative_scan import linear_recurrence, selective_scan
from santm_tf.baselines.mamba import Mamba, MambaBlock
from santm_tf.baselines.pooling import last_valid, mean_valid
from santm_tf.keras import keras


def normal(*shape, seed=0, dtype="float64"):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def numpy_recurrence(a, b):
    h, hs = np.zeros_like(b[:, 0]), []
    for t in range(b.shape[1]):
        h = a[:, t] * h + b[:, t]
        hs.append(h)
    return np.stack(hs, 1)


def numpy_selective_scan(x, delta, a, b, c):
    h, ys = np.zeros([len(x), *a.shape]), []
    for t in range(x.shape[1]):
        h = np.exp(delta[:, t, None] * a) * h + b[:, t, :, None] * (delta * x)[:, t, None]
        ys.append(np.einsum("bn,bne->be", c[:, t], h))
    return np.stack(ys, 1)


def weighted_sum(v):
    return tf.reduce_sum(tf.reshape(tf.cos(tf.range(tf.size(v), dtype=v.dtype)), v.shape) * v)


def gradients_of(f, sources):
    sources = [tf.convert_to_tensor(v) for v in sources]
    with tf.GradientTape() as tape:
        tape.watch(sources)
        loss = weighted_sum(f(*sources))
    return tape.gradient(loss, sources)


def numeric_gradients(f, values, delta=1e-6):
    gradients = []
    for i, value in enumerate(values):
        gradient = np.zeros_like(value)
        for at in np.ndindex(value.shape):
            moved = [np.array(v) for v in values]
            ends = []
            for sign in (1, -1):
                moved[i][at] = value[at] + sign * delta
                y = f(*moved)
                ends.append((np.cos(np.arange(y.size)).reshape(y.shape) * y).sum())
            gradient[at] = (ends[0] - ends[1]) / (2 * delta)
        gradients.append(gradient)
    return gradients


def assert_all_close(actual, expected, atol):
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=0, atol=atol)


SHAPE = st.tuples(st.integers(1, 2), st.integers(1, 40), st.integers(1, 2))
PAIRS = SHAPE.flatmap(lambda shape: st.tuples(
    arrays.arrays(np.float64, shape, elements=st.floats(-1, 1)),
    arrays.arrays(np.float64, shape, elements=st.floats(-10, 10))))


@given(PAIRS)
@settings(max_examples=60, deadline=None)
def test_linear_recurrence_is_the_loop(pair):
    np.testing.assert_allclose(linear_recurrence(*pair), numpy_recurrence(*pair), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 8, 13])
def test_linear_recurrence_gradients(steps):
    pair = np.tanh(normal(2, steps, 2)), normal(2, steps, 2, seed=1)
    assert_all_close(gradients_of(linear_recurrence, pair), numeric_gradients(numpy_recurrence, pair), 1e-7)


def test_linear_recurrence_at_the_extremes():
    steps = 5000
    ones, zeros = np.ones([1, steps, 1], "float32"), np.zeros([1, steps, 1], "float32")
    np.testing.assert_array_equal(linear_recurrence(ones, ones)[0, :, 0], np.arange(1, steps + 1))
    np.testing.assert_array_equal(linear_recurrence(zeros, ones), ones)
    for a in (ones, zeros, 0.5 * ones):
        da, db = gradients_of(linear_recurrence, (a, ones))
        assert np.all(np.isfinite(da)) and np.all(np.isfinite(db))


def scan_inputs(steps, batch=2, states=3, features=2, dtype="float64"):
    """x, delta, A, B, C; one sequence's last steps and one step between have delta = 0."""
    delta = np.exp(normal(batch, steps, features, seed=1))
    delta[0, steps // 2:] = 0
    delta[1, :1] = 0
    values = (normal(batch, steps, features), delta, -np.exp(normal(states, features, seed=2)),
              normal(batch, steps, states, seed=3), normal(batch, steps, states, seed=4))
    return [v.astype(dtype) for v in values]


@given(st.integers(1, 40), st.one_of(st.none(), st.integers(1, 12)))
@settings(max_examples=40, deadline=None)
def test_selective_scan_is_its_equations(steps, chunk_length):
    values = scan_inputs(steps)
    np.testing.assert_allclose(selective_scan(*values, chunk_length), numpy_selective_scan(*values),
                               atol=1e-12)


@pytest.mark.parametrize("steps, chunk_length", [(7, None), (7, 2), (9, 3)])
def test_selective_scan_gradients(steps, chunk_length):
    values = scan_inputs(steps)
    actual = gradients_of(lambda *v: selective_scan(*v, chunk_length), values)
    assert_all_close(actual, numeric_gradients(numpy_selective_scan, values), 1e-6)


def test_selective_scan_at_the_extremes():
    """Step sizes at which nothing is kept, and A at which everything is."""
    x, _, _, b, c = scan_inputs(300, dtype="float32")
    for delta, a in ((1e4, -1e4), (1e-3, 0.0), (0.0, -1.0)):
        values = [x, np.full_like(x, delta), np.full([3, 2], a, "float32"), b, c]
        np.testing.assert_allclose(selective_scan(*values, 8), numpy_selective_scan(*values),
                                   rtol=1e-4, atol=1e-4 * max(1, delta))
        for gradient in gradients_of(lambda *v: selective_scan(*v, 8), values):
            assert np.all(np.isfinite(gradient))


@pytest.mark.parametrize("jit", [False, True])
def test_selective_scan_of_unknown_sizes(jit):
    specs = [tf.TensorSpec(shape, tf.float32) for shape in (
        [None, None, 2], [None, None, 2], [3, 2], [None, None, 3], [None, None, 3])]

    @tf.function(input_signature=specs, jit_compile=jit)
    def run(*values):
        return selective_scan(*values, 4)

    for steps in (1, 11):
        values = scan_inputs(steps, dtype="float32")
        np.testing.assert_allclose(run(*values), numpy_selective_scan(*values), rtol=1e-5, atol=1e-5)


def randomised(layer, x):
    layer(x)
    for i, w in enumerate(layer.weights):
        w.assign_add(0.3 * normal(*w.shape, seed=i))
    return layer


def same_weights(layer, **changes):
    again = type(layer).from_config({**layer.get_config(), **changes})
    again.build([None, None, 2])
    again.set_weights(layer.get_weights())
    return again


@pytest.mark.parametrize("jit", [False, True])
def test_chunked_mamba_is_the_sequential_one(jit):
    x = normal(17, 25, 2, dtype="float32")
    chunked = randomised(Mamba(4, 2, chunk_length=5, return_sequences=True, jit_compile=jit), x)
    sequential = same_weights(chunked, chunk_length=None, jit_compile=False)
    results = []
    for layer in (chunked, sequential):
        with tf.GradientTape() as tape:
            y = layer(x)
            loss = weighted_sum(y)
        results.append([y, *tape.gradient(loss, layer.trainable_weights)])
    assert_all_close(results[0], results[1], 1e-3)


def test_mamba_is_causal():
    x = normal(1, 12, 2, dtype="float32")
    layer = randomised(Mamba(4, 2, chunk_length=3, return_sequences=True, jit_compile=False), x)
    moved = x.copy()
    moved[:, 7] += 1
    change = np.abs(layer(moved) - layer(x)).max(-1)[0]
    assert np.all(change[:7] == 0) and np.all(change[7:] > 0)


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("chunk_length", [3, None])
def test_padding_on_either_side_changes_nothing(chunk_length, sequences):
    x = normal(3, 10, 2, dtype="float32")
    layer = Mamba(4, 2, chunk_length=chunk_length, return_sequences=sequences, jit_compile=False)
    randomised(layer, x)
    mask = np.ones([3, 10], bool)
    mask[0, 6:] = mask[1, :4] = False
    x[~mask] = np.nan
    padded = layer(x, mask=tf.constant(mask))
    for row in range(3):
        alone = layer(x[row:row + 1, mask[row]])[0]
        np.testing.assert_allclose(padded[row][mask[row]] if sequences else padded[row], alone, atol=1e-5)


def test_a_length_that_is_not_known_is_saved_and_loaded(tmp_path):
    model = keras.Sequential([keras.Input([None, 2]), Mamba(4, 1, chunk_length=3)])
    model.save(tmp_path / "model.keras")
    model.export(str(tmp_path / "served"))
    again = keras.models.load_model(tmp_path / "model.keras")
    served = tf.saved_model.load(tmp_path / "served")
    for steps in (2, 10):
        x = normal(3, steps, 2, dtype="float32")
        for run in (again, served.serve):
            np.testing.assert_allclose(run(x), model(x), atol=1e-6)


def test_first_values_are_the_papers():
    block = MambaBlock(state_size=5, jit_compile=False)
    block.build([None, None, 40])
    np.testing.assert_allclose(tf.exp(block.log_a), np.tile(np.arange(1, 6)[:, None], [1, 80]), rtol=1e-6)
    np.testing.assert_array_equal(block.skip, np.ones(80))
    delta = np.log(tf.nn.softplus(block.step_bias))
    assert np.all((np.log(0.00099) < delta) & (delta < np.log(0.101)))
    np.testing.assert_allclose(delta.mean(), np.log(0.01), atol=0.35)
    np.testing.assert_allclose(delta.std(), np.log(100) / 12 ** 0.5, atol=0.35)
    assert block.step_kernel.shape == [3, 80] and np.abs(block.step_kernel).max() <= 3 ** -0.5


@pytest.mark.parametrize("arguments, message", [
    ({"units": 0}, "Mamba: units=0; it must be at least 1"),
    ({"units": 4, "layers": 0}, "Mamba: layers=0; it must be at least 1"),
    ({"units": 4, "state_size": 0}, "Mamba: state_size=0; it must be at least 1"),
    ({"units": 4, "conv_width": 0}, "Mamba: conv_width=0; it must be at least 1"),
    ({"units": 4, "expand": 0}, "Mamba: expand=0; it must be at least 1"),
    ({"units": 4, "chunk_length": 0}, "Mamba: chunk_length=0; it must be at least 1")])
def test_sizes_below_one_are_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        Mamba(**arguments)
    assert str(error.value) == message


def test_a_sequence_without_a_valid_step_gives_zeros():
    y, mask = tf.ones([2, 3, 4]), tf.constant([[False] * 3, [False, True, False]])
    for pool in (last_valid, mean_valid):
        np.testing.assert_array_equal(pool(y, mask), [[0] * 4, [1] * 4])


def block_arrays(layer, get):
    """`get` of mambapy's parameters of a residual block, in the order and layout of our weights."""
    mixer = layer.mixer
    return [get(layer.norm.weight), get(mixer.in_proj.weight).T, get(mixer.conv1d.weight)[:, 0].T,
            get(mixer.conv1d.bias), get(mixer.x_proj.weight).T, get(mixer.dt_proj.weight).T,
            get(mixer.dt_proj.bias), get(mixer.A_log).T, get(mixer.D), get(mixer.out_proj.weight).T]


@pytest.mark.parametrize("steps, chunk_length", [(1, 4), (50, 4), (50, None)])
def test_blocks_are_mambapys(steps, chunk_length):
    torch = pytest.importorskip("torch")
    mambapy = pytest.importorskip("mambapy.mamba")
    torch.manual_seed(0)
    theirs = mambapy.Mamba(mambapy.MambaConfig(d_model=20, n_layers=2, d_state=5))
    for p in theirs.parameters():
        p.data += 0.1 * torch.randn_like(p)
    blocks = [MambaBlock(state_size=5, chunk_length=chunk_length, jit_compile=False) for _ in range(2)]
    for block, layer in zip(blocks, theirs.layers, strict=True):
        block.build([None, None, 20])
        block.set_weights(block_arrays(layer, lambda p: p.detach().numpy()))

    x = normal(3, steps, 20, dtype="float32")
    cosines = np.cos(np.arange(x.size)).reshape(x.shape).astype("float32")
    torch_x = torch.tensor(x, requires_grad=True)
    expected = theirs(torch_x)
    (expected * torch.tensor(cosines)).sum().backward()
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = blocks[1](blocks[0](x))
        loss = tf.reduce_sum(cosines * y)
    weights = [w for block in blocks for w in block.trainable_weights]
    gradients = tape.gradient(loss, [x, *weights])
    theirs_gradients = [torch_x.grad.numpy()]
    for layer in theirs.layers:
        theirs_gradients += block_arrays(layer, lambda p: p.grad.numpy())
    np.testing.assert_allclose(y, expected.detach().numpy(), atol=1e-4)
    for ours, their in zip(gradients, theirs_gradients, strict=True):
        np.testing.assert_allclose(ours, their, rtol=1e-4, atol=1e-4 * max(1, np.abs(their).max()))
