"""Keras 2 before any test file imports TensorFlow: spektral looks for it at `tensorflow.keras`."""

import santm_tf  # noqa: F401
