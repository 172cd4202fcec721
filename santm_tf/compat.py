"""Keras 2 under a current TensorFlow, and tensorflow-addons on top of it.

Importing this module sets `TF_USE_LEGACY_KERAS=1`, so that `tf.keras` is Keras 2 (the `tf_keras`
package). It is the only place that sets it, and the only place that imports tensorflow-addons.

Raises:
  ImportError: in one line, where `tf.keras` is Keras 3 already, or `tf_keras` is not installed.

>>> import santm_tf.compat
>>> import tensorflow as tf
>>> tf.keras.Model.__module__
'tf_keras.src.engine.training'
"""

import functools
import importlib.util
import os
import sys
import warnings

if importlib.util.find_spec("tf_keras") is None:
    raise ImportError("santm_tf needs Keras 2, and tf_keras is not installed: pip install tf-keras")

os.environ["TF_USE_LEGACY_KERAS"] = "1"

import tensorflow as tf  # noqa: E402  (the variable comes first)
import tf_keras  # noqa: E402
from tensorflow.python.ops import control_flow_util  # noqa: E402

# TensorFlow reads the variable where tf.keras is first touched. That `keras` is loaded proves nothing.
if tf.keras.Model is not tf_keras.Model:
    raise ImportError("santm_tf needs Keras 2, and tf.keras is another Keras already: "
                      "set TF_USE_LEGACY_KERAS=1 or import santm_tf before tf.keras")

# `from tensorflow.keras import layers` goes by the path that TensorFlow took at its own import.
_keras_2 = os.path.join(tf_keras.__path__[0], "api", "_v2")
if _keras_2 not in tf.__path__:
    tf.__path__.insert(0, _keras_2)


def in_xla():
    """Whether XLA compiles what is traced here: `tf.function(jit_compile=True)` and all that it calls.

    False where the gradient of such a function is traced after it: choose in the forward pass, and keep to
    it in the backward pass. False, too, in a plain `tf.function` that was traced before a compiled one calls
    it, as TensorFlow does not trace it again.

    >>> in_xla(), bool(tf.function(lambda: tf.constant(in_xla()), jit_compile=True)())
    (False, True)
    """
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def addons():
    """The `tensorflow_addons` module, imported at the first call.

    Its last release, 0.23, looks for `keras.src.engine`, which Keras 3 does not have. Keras 2's own stands in
    for it during the import.

    Raises:
      ImportError: in one line, where tensorflow-addons is not installed.

    >>> try:
    ...     weights = addons().activations.sparsemax(tf.constant([[2.0, 1.5, -1.0]])).numpy()
    ... except ImportError:
    ...     weights = "needs Python 3.11 or older"
    """
    if importlib.util.find_spec("tensorflow_addons") is None:
        why = ("it has wheels for Python 3.11 and older only" if sys.version_info >= (3, 12)
               else "pip install tensorflow-addons")
        raise ImportError(f"tensorflow-addons is not installed: {why}")

    import tf_keras.src.engine.keras_tensor

    engine = tf_keras.src.engine
    stand_ins = {"keras.src.engine": engine, "keras.src.engine.keras_tensor": engine.keras_tensor}
    sys.modules.update(stand_ins)
    try:
        with warnings.catch_warnings():  # of its end of life, and of a TensorFlow newer than it knows
            warnings.simplefilter("ignore")
            import tensorflow_addons
    finally:
        for name in stand_ins:
            del sys.modules[name]
    return tensorflow_addons
