"""What a run shows while it goes, and when it stops."""

import math  # noqa: I001  (santm_tf first: it chooses Keras 2)
import os
import shlex
import signal
import sys
import time

import santm_tf  # noqa: F401
import tensorflow as tf
from tqdm import tqdm

from training.checkpoints import diverged
from training.errors import Stopped


class ProgressBar(tf.keras.callbacks.Callback):
    """The figures so far and the time left, on standard error.

    A terminal has a bar. A file, a pipe or a dumb terminal has a line an epoch. Neither has colours.

    Args:
      steps, epochs: of the whole run. done: how many of the steps an earlier session did.
    """

    SHOWN = ("loss", "accuracy", "access_rate", "boundary_rate", "val_loss", "val_accuracy")

    def __init__(self, steps, epochs, done=0):
        super().__init__()
        self.latest, self.epochs = {}, epochs
        self.in_place = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self.bar = tqdm(total=steps, initial=done, unit="step", file=sys.stderr, mininterval=0.5,
                        dynamic_ncols=True, disable=not self.in_place)
        self.started, self.done, self.first = time.monotonic(), done, done

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.in_place:
            self._note(logs)
            self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self._note(logs)
        if not self.in_place:
            seconds = time.monotonic() - self.started
            left = tqdm.format_interval(seconds * (self.bar.total - self.done) / (self.done - self.first))
            figures = ", ".join(f"{name}={value}" for name, value in self.latest.items())
            print(f"epoch {epoch + 1}/{self.epochs} [{left} left] {figures}", file=sys.stderr, flush=True)

    def close(self):
        """Ends the bar's line, whether the run ended well or not."""
        self.bar.close()

    def _note(self, logs):
        self.latest.update({k: f"{v:.3f}" for k, v in (logs or {}).items() if k in self.SHOWN})
        self.bar.set_postfix(self.latest, refresh=False)


class StopWhenNotFinite(tf.keras.callbacks.Callback):
    """Stops a run at a loss that is NaN or infinite, on the training or on the validation data.

    `Checkpoints` looks at the weights, which are of one update later than the training loss.

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
            raise diverged(where, self.last_good())


class StartSequences(tf.keras.callbacks.Callback):
    """Has a stateful model begin new sequences with every pass over a split.

    Args:
      position: the run's, which may go on within an epoch; None for a single pass.
    """

    def __init__(self, position=None):
        super().__init__()
        self.position = position

    def on_epoch_begin(self, epoch, logs=None):
        if self.position is None or self.position.batch == 0:
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


class StopWithoutGain(tf.keras.callbacks.Callback):
    """Stops a run whose validation figure has not become better for so many epochs.

    Args:
      position: the run's, which counts them. patience: epochs, or None to wait for ever.
    """

    def __init__(self, position, patience):
        super().__init__()
        self.position, self.patience = position, patience

    @property
    def due(self):
        return self.patience is not None and self.position.waited >= self.patience

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training |= self.due


class StopOnSignal(tf.keras.callbacks.Callback):
    """Ends a run at Ctrl-C or SIGTERM, after the step that is under way and with its checkpoint written.

    A second Ctrl-C ends it at once. It is a context manager: after it signals do what they did before.

    Raises:
      Stopped: says where the run is, and how to go on.
    """

    SIGNALS = signal.SIGINT, signal.SIGTERM

    def __init__(self, checkpoints):
        super().__init__()
        self.checkpoints, self.came = checkpoints, None

    def __enter__(self):
        self.before = [signal.signal(number, self._note) for number in self.SIGNALS]
        return self

    def __exit__(self, *_):
        for number, handler in zip(self.SIGNALS, self.before, strict=True):
            signal.signal(number, handler)

    def on_train_batch_end(self, batch, logs=None):
        if self.came and self.checkpoints.save():
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        if self.came:
            self._stop()

    def _note(self, number, frame):
        if self.came:
            raise KeyboardInterrupt
        self.came = number

    def _stop(self):
        position, command = self.checkpoints.position, list(sys.argv)
        if "--resume" not in command:
            command.append("--resume")
        raise Stopped(f"stopped after {position.epoch} epochs and {position.batch} of "
                      f"{self.checkpoints.steps} steps; go on with: "
                      + shlex.join([os.path.basename(sys.executable), *command]), 128 + self.came)
