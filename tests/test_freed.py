"""What was made and is not used any more is freed: layers, and the graphs that were traced from them."""

import gc
import weakref

import pytest
import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.python.framework.func_graph import FuncGraph

import santm_tf
from santm_tf.gradients import custom_gradient
from santm_tf.keras import keras


def graphs():
    gc.collect()
    return [weakref.ref(o) for o in gc.get_objects() if isinstance(o, FuncGraph)]


def registered():
    return sum(name.startswith("CustomGradient-") for name in ops.gradient_registry.list())


@pytest.mark.parametrize("make, jit_compile", [
    (lambda: santm_tf.Recurrent(keras.layers.LSTMCell(3)), False),
    (lambda: santm_tf.SANTM(3, memory_slots=3, slot_width=4, recall="read", boundaries="fixed",
                           jit_compile=False), False),
    (lambda: santm_tf.Recurrent(keras.layers.LSTMCell(3), jit_compile=True), False),
    (lambda: santm_tf.Recurrent(keras.layers.LSTMCell(3)), True)])
def test_models_that_were_trained_leave_nothing_but_the_last_of_them(make, jit_compile):
    def trained():
        layer = make()
        model = keras.Sequential([keras.Input([4, 2]), layer, keras.layers.Dense(1)])
        model.compile("sgd", "mse", jit_compile=jit_compile)
        model.fit(tf.ones([2, 4, 2]), tf.ones([2, 1]), verbose=0)
        return weakref.ref(layer)

    def dropped():
        layer = trained()
        keras.backend.clear_session()
        return layer

    dropped()
    one = len(graphs()), registered()
    layers = [dropped() for _ in range(2)]
    assert (len(graphs()), registered()) == one
    assert not any(layer() for layer in layers)


def test_a_graph_keeps_its_gradient_when_the_function_is_gone():
    def made():
        cubed = custom_gradient(lambda x: (x ** 3, lambda upstream: upstream * 7))

        def twice(x):
            return tf.while_loop(lambda i, y: i < 2, lambda i, y: (i + 1, cubed(y)), (0, x))[1]

        return tf.function(twice, autograph=False).get_concrete_function(tf.TensorSpec([]))

    function, other = made(), made()
    gc.collect()
    x = tf.constant(2.0)
    for _ in range(2):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = function(x)
        assert float(y) == 512 and float(tape.gradient(y, x)) == 49
    names = registered()
    del function, tape, y
    gc.collect()
    assert registered() < names and float(other(x)) == 512


def test_gradients_of_graphs_that_have_no_layer_of_ours_are_left_alone():
    @tf.function
    def foreign(x):
        return tf.custom_gradient(lambda x: (x, lambda upstream: upstream))(x)

    foreign(tf.constant(1.0))
    name = [name for name in ops.gradient_registry.list() if name.startswith("CustomGradient-")][-1]
    kind = type(ops.gradient_registry.lookup(name))

    @tf.function
    def own(x):
        return custom_gradient(lambda x: (x, lambda upstream: upstream))(x)

    own(tf.constant(1.0))
    assert type(ops.gradient_registry.lookup(name)) is kind
