"""An HTTP server for what `santm-export` writes: one file to copy, or `python -m santm_tf.serving.server`."""
