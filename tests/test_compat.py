"""Which Keras a fresh interpreter gets, and tensorflow-addons on top of it."""

import importlib.util
import os
import subprocess
import sys

import pytest
import tensorflow as tf

from santm_tf import compat
from santm_tf.keras import keras

HAS_ADDONS = importlib.util.find_spec("tensorflow_addons") is not None


def run(code, **environment):
    """Runs code in a fresh interpreter that has not been told which Keras to use."""
    inherited = {k: v for k, v in os.environ.items() if k != "TF_USE_LEGACY_KERAS"}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment,
        capture_output=True,
        text=True,
    )


def last_line(process):
    return process.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("before", ["", "import keras\nfrom tensorflow import keras as lazy"])
def test_importing_it_makes_tf_keras_keras_2(before):
    process = run(
        f"{before}\nfrom santm_tf import compat\nimport tensorflow as tf, os, sys\n"
        "print(os.environ['TF_USE_LEGACY_KERAS'], keras.Model.__module__)\n"
        "assert 'tensorflow_addons' not in sys.modules"
    )
    assert process.stdout.split() == ["1", "tf_keras.src.engine.training"], process.stderr
    assert process.returncode == 0, process.stderr


def test_tensorflow_keras_as_a_module_is_keras_2_too():
    process = run("import tensorflow, santm_tf\nfrom tensorflow.keras import layers\n"
                  "print(layers.Dense.__module__)")
    assert process.stdout.strip().startswith("tf_keras"), process.stderr


def test_keras_3_in_place_is_one_line_that_says_what_to_do():
    process = run("import tensorflow as tf\nkeras.layers\nfrom santm_tf import compat")
    assert process.returncode != 0
    assert last_line(process) == (
        "ImportError: santm_tf needs Keras 2, and tf.keras is another Keras already: "
        "set TF_USE_LEGACY_KERAS=1 or import santm_tf before tf.keras"
    )


def test_with_the_variable_set_tf_keras_may_come_first():
    code = "import tensorflow as tf\nkeras.layers\nfrom santm_tf import compat"
    assert run(code, TF_USE_LEGACY_KERAS="1").returncode == 0


def test_a_missing_tf_keras_is_one_line():
    process = run("import sys\nsys.modules['tf_keras'] = None\nfrom santm_tf import compat")
    assert process.returncode != 0
    assert last_line(process).endswith("tf_keras is not installed: pip install tf-keras")


@pytest.mark.skipif(not HAS_ADDONS, reason="tensorflow-addons has no wheel for this Python")
def test_addons_work_quietly_and_leave_keras_3_alone():
    process = run(
        "import sys, warnings\n"
        "warnings.simplefilter('error')\n"
        "from santm_tf import compat\n"
        "addons = compat.addons()\n"
        "assert compat.addons() is addons\n"
        "assert not [name for name in sys.modules if name.startswith('keras.src.engine')]\n"
        "import keras, tensorflow as tf\n"
        "assert keras.__version__.startswith('3.')\n"
        "assert isinstance(addons.rnn.LayerNormLSTMCell(4), keras.layers.Layer)\n"
        "print(addons.activations.sparsemax(tf.constant([[2.0, 1.5, -1.0]])).numpy().tolist())"
    )
    assert process.stdout.strip() == "[[0.75, 0.25, 0.0]]", process.stderr


def test_missing_addons_are_one_line(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow_addons", None)
    with pytest.raises(ImportError, match="^tensorflow-addons is not installed: .*$"):
        compat.addons.__wrapped__()


def seen(within):
    """What `in_xla` says in a forward and a backward pass that are run within something."""
    found = {}

    @tf.custom_gradient
    def noted(x):
        found["forward"] = compat.in_xla()

        def backward(d):
            found["backward"] = compat.in_xla()
            return d

        return tf.identity(x), backward

    within(noted)
    return found


def gradient(function, x=None):
    x = tf.ones([2, 1]) if x is None else x
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = function(x)
    return tape.gradient(y, x)


def in_a_loop(function):
    return lambda x: tf.while_loop(lambda *_: True, lambda x: [function(x)], [x], maximum_iterations=2)[0]


@pytest.mark.parametrize("jit", [None, True])
@pytest.mark.parametrize("around", [
    lambda f, **jit: tf.function(lambda x: gradient(f, x), **jit)(tf.ones([2, 1])),
    lambda f, **jit: tf.function(lambda x: gradient(tf.function(f), x), **jit)(tf.ones([2, 1])),
    lambda f, **jit: tf.function(lambda x: gradient(in_a_loop(f), x), **jit)(tf.ones([2, 1])),
    lambda f, **jit: gradient(tf.function(f, **jit)),
], ids=["tape inside", "function inside", "loop inside", "tape outside"])
def test_xla_is_known_forward_and_backward(around, jit):
    expected = bool(jit)
    assert seen(lambda f: around(f, jit_compile=jit)) == {"forward": expected, "backward": expected}


def test_xla_is_known_forward_where_its_gradient_is_traced_in_a_plain_function():
    found = seen(lambda f: tf.function(lambda x: gradient(tf.function(f, jit_compile=True), x))(tf.ones([1])))
    assert found["forward"]


@pytest.mark.parametrize("jit", [False, True])
def test_xla_is_known_in_keras(jit):
    class Noted(keras.layers.Layer):
        def call(self, inputs):
            return self.noted(inputs)

    layer = Noted()
    layer.noted = tf.identity
    model = keras.Sequential([keras.layers.Dense(1), layer])
    model.compile("sgd", "mse", jit_compile=jit)

    def fit(noted):
        layer.noted = noted
        model.fit(tf.ones([2, 1]), tf.ones([2, 1]), verbose=0)

    assert seen(fit) == {"forward": jit, "backward": jit}
