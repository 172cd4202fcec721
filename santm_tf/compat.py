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

# TensorFlow reads the variable where tf.keras is first touched, not where TensorFlow is imported.
# So `keras` among the loaded modules proves nothing, and what counts is what tf.keras turns out to
# be.
if tf.keras.Model is not tf_keras.Model:
    raise ImportError(
        "santm_tf needs Keras 2, and tf.keras is another Keras already: "
        "set TF_USE_LEGACY_KERAS=1 or import santm_tf before tf.keras"
    )

# `from tensorflow.keras import layers` goes by the path that TensorFlow took at its own import.
_keras_2 = os.path.join(tf_keras.__path__[0], "api", "_v2")
if _keras_2 not in tf.__path__:
    tf.__path__.insert(0, _keras_2)


def in_xla():
    """Whether XLA compiles what is traced here: `tf.function(jit_compile=True)` and all that it calls.

    False where the gradient of such a function is traced after it: who chooses operations by this chooses
    in the forward pass, and the backward pass keeps to it. False, too, in a plain `tf.function`
    that was traced before a compiled one calls it, as TensorFlow does not trace it again.

    >>> in_xla(), bool(tf.function(lambda: tf.constant(in_xla()), jit_compile=True)())
    (False, True)
    """
    return control_flow_util.GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


@functools.cache
def addons():
    """Returns the `tensorflow_addons` module, imported at the first call.

    tensorflow-addons 0.23 is the last release, and looks for `keras.src.engine`, which Keras 3 does
    not have. Keras 2's own stands in for it during the import and is then taken away again, so that
    Keras 3 is left as it was.

    Raises:
      ImportError: in one line, where tensorflow-addons is not installed. It has wheels for Python
        3.11 and older only.

    >>> try:
    ...     weights = addons().activations.sparsemax(tf.constant([[2.0, 1.5, -1.0]])).numpy()
    ... except ImportError:
    ...     weights = "needs Python 3.11 or older"
    """
    if importlib.util.find_spec("tensorflow_addons") is None:
        why = (
            "it has wheels for Python 3.11 and older only"
            if sys.version_info >= (3, 12)
            else "pip install tensorflow-addons"
        )
        raise ImportError(f"tensorflow-addons is not installed: {why}")

    import tf_keras.src.engine.keras_tensor

    stand_ins = {
        "keras.src.engine": tf_keras.src.engine,
        "keras.src.engine.keras_tensor": tf_keras.src.engine.keras_tensor,
    }
    sys.modules.update(stand_ins)
    try:
        # It warns that it is at its end of life and that this TensorFlow is newer than it knows:
        # both are known here.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import tensorflow_addons
    finally:
        for name in stand_ins:
            del sys.modules[name]
    return tensorflow_addons
