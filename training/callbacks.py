"""What a run shows while it goes, and when it stops."""

import math
import sys

import tensorflow as tf
from tqdm import tqdm

from training.flags import UsageError


class Progress(tf.keras.callbacks.Callback):
    """One bar on standard error for the whole run: figures so far, and the time left.

    Args:
      steps: of the whole run.
      done: of those, how many an earlier session did.
    """

    SHOWN = ("loss", "accuracy", "access_rate", "boundary_rate", "val_loss", "val_accuracy")

    def __init__(self, steps, done=0):
        super().__init__()
        self.latest = {}
        self.bar = tqdm(total=steps, initial=done, unit="step", file=sys.stderr, mininterval=0.5,
                        dynamic_ncols=True)

    def on_train_batch_end(self, batch, logs=None):
        self._show(logs)
        self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self._show(logs)

    def close(self):
        """Ends the bar's line, whether the run ended well or not."""
        self.bar.close()

    def _show(self, logs):
        self.latest.update({k: f"{v:.3f}" for k, v in (logs or {}).items() if k in self.SHOWN})
        self.bar.set_postfix(self.latest, refresh=False)


class StopWhenNotFinite(tf.keras.callbacks.Callback):
    """Stops a run at a loss that is NaN or infinite, before anything of it is saved.

    The loss on the validation data, which the weights after the epoch's last update give, too.

    Args:
      last_good: function that gives the last good checkpoint's path, or None.
    """

    def __init__(self, last_good):
        super().__init__()
        self.last_good, self.epoch = last_good, 0

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        self._check(logs["loss"], f"the loss is {logs['loss']} at epoch {self.epoch + 1}, step {batch + 1}")

    def on_epoch_end(self, epoch, logs=None):
        loss = logs.get("val_loss", 0.0)
        self._check(loss, f"the validation loss is {loss} after epoch {epoch + 1}")

    def _check(self, loss, where):
        if not math.isfinite(loss):
            raise UsageError(f"{where}; the last good checkpoint is {self.last_good() or 'none'}; "
                             "lower --learning_rate or --clip_norm")


class StartSequences(tf.keras.callbacks.Callback):
    """Has a stateful model begin new sequences with every pass over a split."""

    def on_epoch_begin(self, epoch, logs=None):
        self.model.reset_states()

    def on_test_begin(self, logs=None):
        self.model.reset_states()


class StopAfter(tf.keras.callbacks.Callback):
    """Stops after `steps` optimiser steps, those of earlier sessions counted in."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) >= self.steps:
            self.model.stop_training = True
