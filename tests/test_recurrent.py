"""`Recurrent` against `keras.layers.RNN` driving the same cell."""

import inspect

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import Recurrent, SegmentLSTMCell, load_model
from santm_tf.keras import VERSION, keras
from tests.helpers import Looped

LSTMCell, GRUCell = keras.layers.LSTMCell, keras.layers.GRUCell
MODES = {"eager": lambda f: f, "function": tf.function,
         "jit": lambda f: tf.function(f, jit_compile=True)}

# Nothing masked, padding on the right, on the left, gaps, and everything masked.
MASK = tf.constant([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 1], [0, 0, 0, 0]]) > 0


def normal(*shape, seed=0, dtype=np.float32):
    return tf.constant(np.random.default_rng(seed).normal(size=shape), dtype)


class NestedCell(keras.layers.Layer):
    """Two inputs, two outputs, two states of different ranks."""

    state_size = [3, tf.TensorShape([2, 3])]
    output_size = (3, tf.TensorShape([2, 3]))

    def build(self, input_shape):
        self.kernel = self.add_weight(name="kernel", shape=[3, 3])
        super().build(input_shape)

    def call(self, inputs, states):
        vector, matrix = inputs
        h, m = states
        h = tf.tanh(vector + h @ self.kernel)
        m = 0.5 * m + matrix * h[:, None]
        return (h + m[:, 0], tf.sin(m)), [h, m]


@keras.saving.register_keras_serializable("tests")
class ConstantsCell(keras.layers.SimpleRNNCell):
    """A simple cell whose output is scaled by the constants."""

    def call(self, inputs, states, constants, training=None):
        scale, shift = constants
        y, states = super().call(inputs, states, training=training)
        return y * scale + shift, states


class CountingCell(keras.layers.SimpleRNNCell):
    """Counts how often Python runs it."""

    calls = 0

    def call(self, *args, **kwargs):
        self.calls += 1
        return super().call(*args, **kwargs)


CELLS = {
    "lstm": lambda: LSTMCell(3),
    "gru": lambda: GRUCell(3),
    "gru, reset before": lambda: GRUCell(3, reset_after=False),
    "simple": lambda: keras.layers.SimpleRNNCell(3),
    "stacked": lambda: [LSTMCell(4), GRUCell(3)],
}


def weighted_sum(v):
    weights = tf.cos(tf.cast(tf.range(tf.size(v)), v.dtype))
    return tf.tensordot(weights, tf.reshape(v, [-1]), 1)


def everything(layer, x, sources=(), **call):
    """All outputs and states, and the gradients for inputs, `sources` and weights."""
    layer(x, **call)  # builds the weights
    with tf.GradientTape() as tape:
        tape.watch([x, sources])
        results = layer(x, **call)
        loss = tf.add_n([weighted_sum(v) for v in tf.nest.flatten(results)])
    return results, tape.gradient(loss, (x, sources, layer.trainable_weights),
                                  unconnected_gradients="zero")


def assert_same(actual, expected, rtol=1e-5, atol=1e-5):
    tf.nest.assert_same_structure(actual, expected, expand_composites=True)
    for a, e in zip(tf.nest.flatten(actual, expand_composites=True),
                    tf.nest.flatten(expected, expand_composites=True), strict=True):
        assert a.dtype == e.dtype
        np.testing.assert_allclose(a, e, rtol=rtol, atol=atol)


def assert_like_keras(cell, x, sources=(), call=None, ours=None, theirs=keras.layers.RNN, **options):
    call = call or {}
    expected = everything(theirs(cell, **options), x, sources, **call)
    layer = Recurrent(cell, **options, **(ours or {}))
    assert_same(everything(layer, x, sources, **call), expected)
    assert layer.trainable_weights
    return layer


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("cell", CELLS)
def test_outputs_states_and_all_gradients(cell, mask):
    assert_like_keras(CELLS[cell](), normal(5, 4, 2), call={"mask": mask},
                      return_sequences=True, return_state=True)


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("mode", MODES)
def test_every_way_to_run_it_is_the_same(mode, jit):
    cell, x, state = LSTMCell(3), normal(5, 4, 2), [normal(5, 3, seed=1), normal(5, 3, seed=2)]
    options = dict(return_sequences=True, return_state=True)
    call = dict(mask=MASK, initial_state=state)
    expected = everything(keras.layers.RNN(cell, **options), x, state, **call)
    layer = Recurrent(cell, jit_compile=jit, **options)
    assert_same(MODES[mode](lambda: everything(layer, x, state, **call))(), expected)


@pytest.mark.parametrize("zero", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_options_of_the_output(zero, sequences, backwards):
    assert_like_keras(GRUCell(3), normal(5, 4, 2), call={"mask": MASK}, return_sequences=sequences,
                      zero_output_for_mask=zero, go_backwards=backwards, return_state=True)


def test_initial_state_gets_gradients():
    state = [normal(5, 3, seed=1), normal(5, 3, seed=2)]
    layer = Recurrent(LSTMCell(3))
    assert_like_keras(LSTMCell(3), normal(5, 4, 2), state, {"initial_state": state})
    _, (_, gradients, _) = everything(layer, normal(5, 4, 2), state, initial_state=state)
    assert all(np.any(g) for g in gradients)


def test_numpy_arguments():
    cell, x, mask = GRUCell(3), normal(5, 4, 2).numpy(), MASK.numpy()
    assert_same(Recurrent(cell)(x, mask=mask), keras.layers.RNN(cell)(x, mask=mask))


@pytest.mark.parametrize("mask", [None, MASK], ids=["no mask", "mask"])
@pytest.mark.parametrize("sequences", [False, True])
def test_nested_inputs_outputs_and_states(sequences, mask):
    x = normal(5, 4, 3), normal(5, 4, 2, 3, seed=1)
    assert_like_keras(NestedCell(), x, call={"mask": mask}, return_sequences=sequences,
                      return_state=True, theirs=Looped)


@pytest.mark.parametrize("jit", [False, True])
def test_constants_get_gradients(jit):
    constants = [normal(5, 3, seed=1), normal(3, seed=2)]
    state = [normal(5, 3, seed=3)]
    layer = assert_like_keras(
        ConstantsCell(3), normal(5, 4, 2), (state, constants),
        {"constants": constants, "initial_state": state}, {"jit_compile": jit}, Looped,
        return_sequences=True)
    assert layer.cell.built


def test_constants_for_a_cell_without_are_refused():
    with pytest.raises(ValueError, match="does not support constants"):
        Recurrent(LSTMCell(3))(normal(5, 4, 2), constants=[normal(3)])


def test_functional_model_with_state_and_constants_as_layers_inputs():
    shapes = [4, 2], [3], [3], [3]
    inputs = [keras.Input(shape) for shape in shapes]
    cell = ConstantsCell(3)

    y = Recurrent(cell)(inputs[0], initial_state=inputs[1:2], constants=inputs[2:])
    values = [normal(5, *shape, seed=i) for i, shape in enumerate(shapes)]
    assert_same(keras.Model(inputs, y)(values), Looped(cell)(values[0], initial_state=values[1:2],
                                                             constants=values[2:]))


def test_functional_model_with_several_sequences_and_their_state_as_inputs():
    shapes = [4, 3], [4, 2, 3], [3], [2, 3]
    inputs = [keras.Input(shape) for shape in shapes]
    cell = NestedCell()
    y = Recurrent(cell)(tuple(inputs[:2]), initial_state=inputs[2:])
    values = [normal(5, *shape, seed=i) for i, shape in enumerate(shapes)]
    expected = Looped(cell)(tuple(values[:2]), initial_state=values[2:])
    assert_same(list(keras.Model(inputs, list(y))(values)), list(expected))


@pytest.mark.skipif("time_major" not in inspect.signature(keras.layers.RNN).parameters,
                    reason="Keras 2's RNN alone has time_major")
@pytest.mark.parametrize("jit", [False, True])
def test_time_major(jit):
    assert_like_keras(LSTMCell(3), normal(4, 5, 2), call={"mask": tf.transpose(MASK)},
                      ours={"jit_compile": jit}, time_major=True, return_sequences=True,
                      return_state=True)


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("sequences", [False, True])
def test_ragged_inputs_give_what_each_gives_alone(sequences, backwards):
    x, lengths = normal(3, 4, 2), [4, 1, 3]
    cell = LSTMCell(3)
    options = dict(return_sequences=sequences, return_state=True, go_backwards=backwards)
    y, *state = Recurrent(cell, **options)(tf.RaggedTensor.from_tensor(x, lengths))
    for row, length in enumerate(lengths):
        alone = keras.layers.RNN(cell, **options)(x[row:row + 1, :length])
        assert_same([y[row], *[v[row] for v in state]], [v[0] for v in alone])


def test_ragged_inputs_with_a_mask_are_refused():
    x = tf.RaggedTensor.from_tensor(normal(2, 4, 2), lengths=[4, 1])
    with pytest.raises(ValueError, match="mask"):
        Recurrent(LSTMCell(3))(x, mask=MASK[:2])


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.parametrize("mode", ["eager", "function"])
def test_stateful_goes_on_and_resets(mode, jit):
    cell, x = LSTMCell(3), normal(2, 6, 2)
    whole = keras.layers.RNN(cell)(x)
    layer = Recurrent(cell, stateful=True, jit_compile=jit)
    call = MODES[mode](layer)
    for _ in range(2):
        call(x[:, :3])
        assert_same(call(x[:, 3:]), whole)
        layer.reset_states()
    for variable, value in zip(layer.states, (np.ones([2, 3]), np.zeros([2, 3])), strict=True):
        variable.assign(value)
    assert_same(call(x), keras.layers.RNN(cell)(
        x, initial_state=[tf.ones([2, 3]), tf.zeros([2, 3])]))


@pytest.fixture
def three_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2}, raising=False)


@pytest.mark.parametrize("batch", [1, 2, 17])
def test_slices_of_the_batch_cover_every_row(batch, three_cores):
    cell, x, mask = LSTMCell(3), normal(batch, 4, 2), normal(batch, 4, seed=1) > 0
    assert_like_keras(cell, x, call={"mask": mask}, ours={"jit_compile": True},
                      return_sequences=True, return_state=True)


def test_slices_of_a_batch_of_unknown_size_cover_every_row(three_cores):
    cell = GRUCell(3)
    layer, theirs = Recurrent(cell, jit_compile=True), keras.layers.RNN(cell)
    layer(normal(1, 4, 2))

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 2])])
    def run(x):
        return everything(layer, x)

    for batch in (1, 2, 5):
        x = normal(batch, 4, 2, seed=batch)
        assert_same(run(x)[0], everything(theirs, x)[0])


def test_bidirectional_wrapper():
    x = normal(5, 4, 2)
    expected = keras.layers.Bidirectional(keras.layers.RNN(GRUCell(3), return_sequences=True))
    ours = keras.layers.Bidirectional(Recurrent(GRUCell(3), return_sequences=True))
    ours.build(x.shape)
    expected.build(x.shape)
    ours.set_weights(expected.get_weights())
    assert_same(ours(x, mask=MASK), expected(x, mask=MASK))


def test_unknown_length():
    cell = GRUCell(3)
    theirs = keras.layers.RNN(cell)
    theirs(normal(1, 4, 2))
    call = tf.function(Recurrent(cell), input_signature=[tf.TensorSpec([None, None, 2])])
    for steps in (1, 3):
        assert_same(call(normal(2, steps, 2)), theirs(normal(2, steps, 2)))


def linear_cell(**kwargs):
    """With it y is linear in x, whatever the dropout masks are."""
    return keras.layers.SimpleRNNCell(4, activation=None, use_bias=False, **kwargs)


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("mode", MODES)
def test_dropout_is_the_same_in_the_gradient_as_in_the_output(mode, jit):
    layer = Recurrent(linear_cell(dropout=0.5, recurrent_dropout=0.5), jit_compile=jit)
    x = normal(17, 3, 5)  # slices of different sizes

    def outputs_and_directional_derivative():
        with tf.GradientTape() as tape:
            tape.watch(x)
            once, twice = layer(x, training=True), layer(2 * x, training=True)
            y = tf.reduce_sum(once) + tf.reduce_sum(twice)
        return once, twice, y, tf.reduce_sum(tape.gradient(y, x) * x)

    once, twice, y, derivative = MODES[mode](outputs_and_directional_derivative)()
    np.testing.assert_allclose(derivative, y, rtol=1e-4)  # Euler: y(x) = x . dy/dx where linear
    assert np.any(np.abs(2 * once - twice) > 1e-3)  # every call draws its own masks


@pytest.mark.parametrize("cells", [lambda: LSTMCell(3, dropout=0.5),
                                   lambda: [LSTMCell(3, dropout=0.5), GRUCell(3)]],
                         ids=["one cell", "stacked"])
def test_dropped_inputs_are_dropped_at_every_step(cells):
    layer = Recurrent(cells())
    x = normal(2, 9, 6)

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
        return tape.gradient(y, x)

    dropped = gradient().numpy() == 0
    assert np.all(dropped == dropped[:, :1]) and dropped.any() and not dropped.all()


def test_no_dropout_outside_training():
    cell, x = LSTMCell(3, dropout=0.5, recurrent_dropout=0.5), normal(2, 4, 2)
    assert_same(Recurrent(cell)(x), keras.layers.RNN(cell)(x))


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "float64"])
def test_precision_follows_the_policy(policy, jit):
    cell = LSTMCell(3, dtype=policy)
    layer = Recurrent(cell, dtype=policy, jit_compile=jit, return_sequences=True)
    x = normal(2, 4, 2, dtype=np.float64)
    y, (_, _, gradients) = everything(layer, tf.cast(x, layer.compute_dtype))
    assert y.dtype == layer.compute_dtype
    assert all(g.dtype == layer.variable_dtype for g in gradients)
    exact = LSTMCell(3, dtype="float64")
    reference = keras.layers.RNN(exact, dtype="float64", return_sequences=True)
    reference.build(x.shape)
    reference.set_weights(layer.get_weights())
    expected = everything(reference, x)
    tolerance = 1e-6 if policy == "float64" else 0.1
    np.testing.assert_allclose(tf.cast(y, tf.float64), expected[0], atol=tolerance)
    for actual, wanted in zip(gradients, expected[1][2], strict=True):
        np.testing.assert_allclose(actual, wanted, atol=tolerance)


@pytest.mark.parametrize("jit", [False, True], ids=["plain", "jit"])
def test_fit_learns(jit):
    model = keras.Sequential([
        keras.layers.Masking(input_shape=[4, 2]), Recurrent(LSTMCell(3)),
        keras.layers.Dense(1)])
    model.compile("sgd", "mse", jit_compile=jit)
    x, y = normal(8, 4, 2), normal(8, 1)
    before = [w.copy() for w in model.get_weights()]
    losses = model.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"]
    assert losses[1] < losses[0]
    assert all(np.any(a != b) for a, b in zip(before, model.get_weights(), strict=True))


def test_config_round_trip():
    layer = Recurrent([LSTMCell(4), ConstantsCell(3)], jit_compile=True, return_sequences=True,
                      go_backwards=True, zero_output_for_mask=True, name="loop")
    again = Recurrent.from_config(layer.get_config())
    assert again.get_config() == layer.get_config()
    assert again.jit_compile and again.go_backwards and again.zero_output_for_mask


def test_saved_model_gives_equal_outputs(tmp_path):
    model = keras.Sequential([
        keras.layers.Masking(input_shape=[4, 2]),
        Recurrent([LSTMCell(3), GRUCell(2)], return_sequences=True),
        Recurrent(LSTMCell(3), go_backwards=True)])
    model.save(tmp_path / "model.keras")
    x = tf.where(MASK[..., None], normal(5, 4, 2), 0)
    np.testing.assert_array_equal(load_model(tmp_path / "model.keras")(x), model(x))


def test_cell_is_traced_once_for_batches_of_one_shape():
    cell = CountingCell(3)
    layer = Recurrent(cell, jit_compile=True)
    layer.build((2, None, 2))

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            y = layer(x)
        return tape.gradient(y, layer.trainable_weights)

    step(normal(2, 4, 2))
    traced = cell.calls
    assert 0 < traced <= 4  # its outputs' structure, the loop forward, the loop back
    for seed in range(1, 4):
        step(normal(2, 4, 2, seed=seed))
    assert cell.calls == traced


def test_tracing_does_not_grow_with_the_length():
    def traced(steps):
        cell = CountingCell(3)
        tf.function(Recurrent(cell))(normal(2, steps, 2))
        return cell.calls

    assert traced(3) == traced(30)


@pytest.mark.parametrize(("width", "expected"), [(200, [[5, 4, 200]]), (2, [[5, 2], [5, 2]])])
def test_a_split_cell_projects_all_steps_of_a_wide_input_at_once(width, expected):
    class Split(SegmentLSTMCell):
        shapes = []

        def project(self, inputs):
            self.shapes.append(inputs.shape.as_list())
            return super().project(inputs)

    cell = Split(3)
    whole = Recurrent(cell)(normal(5, 4, width))
    assert cell.shapes[:2] == expected
    h, c = cell.get_initial_state(batch_size=5, dtype=whole[0].dtype)
    for t in range(4):
        (h, _), (_, c) = cell(normal(5, 4, width)[:, t], [h, c])
    np.testing.assert_allclose(whole[0], h, atol=1e-5)


def test_unroll_changes_nothing():
    assert_like_keras(LSTMCell(3), normal(5, 4, 2), unroll=True)


def test_unrolling_an_unknown_number_of_steps_is_refused_as_by_keras():
    for layer in keras.layers.RNN, Recurrent:
        run = tf.function(layer(LSTMCell(3), unroll=True), input_signature=[tf.TensorSpec([5, None, 2])],
                          autograph=False)
        with pytest.raises(ValueError, match="Cannot unroll a RNN"):
            run(normal(5, 4, 2))


@pytest.mark.skipif(VERSION == 2, reason="Keras 2's RNN fails where its precision is not the cell's")
@pytest.mark.parametrize("sequences", [False, True])
def test_outputs_have_the_layers_precision_and_not_the_cells(sequences):
    assert_like_keras(LSTMCell(3, dtype="float32"), normal(5, 4, 2, dtype=np.float16), dtype="mixed_float16",
                      return_sequences=sequences)


def test_stateful_says_that_the_batch_size_is_another():
    layer = Recurrent(LSTMCell(3), stateful=True)
    layer(normal(5, 4, 2))
    with pytest.raises(ValueError, match=r"batch size of 2|shape=\(5, "):
        layer(normal(2, 4, 2))


class Summed:
    """A cell that is no Keras layer."""

    state_size = output_size = 2

    def call(self, inputs, states):
        total = inputs + states[0]
        return total, [total]


def test_a_cell_need_be_no_layer():
    x = normal(5, 4, 2)
    assert_same(Recurrent(Summed())(x), tf.reduce_sum(x, 1))


class Wrapped(keras.layers.Layer):
    """A cell around another, with a dropout of its own."""

    def __init__(self, cell, rate):
        super().__init__()
        self.cell, self.dropout, self.state_size = cell, keras.layers.Dropout(rate), cell.state_size

    def build(self, input_shape):
        self.cell.build(input_shape)
        super().build(input_shape)

    def call(self, inputs, states, training=None):
        y, states = self.cell(inputs, states, training=training)
        return self.dropout(y, training=training), states


@pytest.mark.parametrize("jit", [False, True])
def test_dropout_anywhere_in_a_tree_of_cells_is_drawn_once_a_call(jit):
    cell = Wrapped(Wrapped(linear_cell(dropout=0.3, recurrent_dropout=0.3), 0.3), 0.3)
    layer = Recurrent(cell, return_sequences=True, jit_compile=jit)
    x = normal(8, 9, 6)

    @tf.function
    def outputs_and_gradient():
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x, training=True)
            total = tf.reduce_sum(y)
        return y, total, tape.gradient(total, x)

    y, total, gradient = map(np.array, outputs_and_gradient())
    np.testing.assert_allclose(np.sum(gradient * x), total, rtol=1e-4)  # Euler, where y is linear in x
    dropped = y == 0
    assert np.all(dropped == dropped[:, :1]) and dropped.any() and not dropped.all()
    assert np.any(outputs_and_gradient()[0] != y)
    assert_same(layer(x), layer(x))


def test_wrong_number_of_initial_states_is_refused():
    with pytest.raises(ValueError):
        Recurrent(LSTMCell(3))(normal(5, 4, 2), initial_state=[normal(5, 3)])
