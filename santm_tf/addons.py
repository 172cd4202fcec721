"""tensorflow-addons, where it can be imported: it belongs to Keras 2 and to Python up to 3.11.

What of it this library uses it has itself, too (`santm_tf.sparse.sparsemax`, `baselines.layer_norm_lstm`,
`training.optimizers`), so nothing needs it.
"""

import functools
import importlib.util
import sys
import warnings

from santm_tf.keras import VERSION


@functools.cache
def addons():
    """The `tensorflow_addons` module, imported at the first call; None where it cannot be.

    Its last release, 0.23, looks for `keras.src.engine`, which Keras 3 does not have. Keras 2's own stands in
    for it during the import.

    >>> module = addons()
    >>> module is None or hasattr(module.activations, "sparsemax")
    True
    """
    if VERSION == 3 or importlib.util.find_spec("tensorflow_addons") is None:
        return None

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
