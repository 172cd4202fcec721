"""An HTTP server for what `santm-export` writes: a folder to copy, or `python -m santm_tf.serving.server`."""
