"""What a run shows while it goes, and when it stops."""

import datetime
import importlib.util
import math
import os
import shlex
import signal
import sys
import threading
import time
import types

from santm_tf.keras import keras, layers_of, reset_states
from santm_tf.training import cache
from santm_tf.training.checkpoints import diverged
from santm_tf.training.errors import Stopped

IMPORTED = time.process_time()  # which tells a slow machine from a fast one


class ProgressBar(keras.callbacks.Callback):
    """The figures so far and the time left, on standard error.

    A terminal has tqdm's bar. A file, a pipe, a dumb terminal, or one without tqdm, has a line an epoch.
    Neither has colours.

    Args:
      steps, epochs: of the whole run. done: how many of the steps an earlier session did.
      chance: what guessing scores, by metric name, which stands beside a validation figure.
    """

    SHOWN = ("loss", "accuracy", "access_rate", "boundary_rate", "val_loss", "val_accuracy")

    def __init__(self, steps, epochs, done=0, chance=types.MappingProxyType({})):
        super().__init__()
        self.latest, self.epochs, self.chance = {}, epochs, {f"val_{name}": v for name, v in chance.items()}
        self.steps, self.bar = steps, None
        if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and importlib.util.find_spec("tqdm"):
            from tqdm import tqdm

            self.bar = tqdm(total=steps, initial=done, unit="step", file=sys.stderr, mininterval=0.5,
                            dynamic_ncols=True)
        self.started, self.done, self.first = time.monotonic(), done, done

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.bar is not None:
            self._note(logs)
            self.bar.update()

    def on_epoch_end(self, epoch, logs=None):
        self._note(logs)
        if self.bar is None:
            seconds = time.monotonic() - self.started
            seconds *= (self.steps - self.done) / (self.done - self.first)
            left = datetime.timedelta(seconds=round(seconds))
            figures = ", ".join(f"{name}={value}" for name, value in self.latest.items())
            print(f"epoch {epoch + 1}/{self.epochs} [{left} left] {figures}", file=sys.stderr, flush=True)

    def say(self, line):
        """A line above the bar."""
        if self.bar is None:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.write(line, file=sys.stderr)

    def close(self):
        """Ends the bar's line, whether the run ended well or not."""
        if self.bar is not None:
            self.bar.close()

    def _note(self, logs):
        for name in dict.fromkeys((*self.SHOWN, *self.chance)):
            if name in (logs or {}):
                beside = f" (chance {self.chance[name]:.3f})" if name in self.chance else ""
                self.latest[name] = f"{logs[name]:.3f}{beside}"
        if self.bar is not None:
            self.bar.set_postfix(self.latest, refresh=False)


class SayCompiling(keras.callbacks.Callback):
    """Says so where a first train step takes long, which TensorFlow traces and XLA compiles.

    The first step of a function that is made anew is one, too. How long it will take is what the last one of
    the same model and sizes took here. Nothing being known, the number of variables gives a guess.

    Args:
      say: function of a line. sizes: what tells the model and its sizes. jit: whether XLA compiles it.
    """

    AFTER = 3.0  # seconds
    TRACED, COMPILED = 0.05, 0.15  # seconds a variable and a second of imports, by the models of configs/
    FROM_CACHE = 0.35  # of the time, once XLA's programs are kept

    def __init__(self, say, sizes, jit):
        super().__init__()
        self.say, self.sizes, self.jit = say, sizes, jit
        self.function = self.timer = None

    def on_train_batch_begin(self, batch, logs=None):
        if self.model.train_function is not self.function:
            self.function, self.kept = self.model.train_function, cache.count()
            self.started = time.monotonic()
            expected = max(self.AFTER, cache.seconds().get(self._run()) or self._guess())
            line = f"compiling, about {expected:.0f} s"
            self.timer = threading.Timer(self.AFTER, self.say, [line])
            self.timer.daemon = True
            self.timer.start()

    def on_train_batch_end(self, batch, logs=None):
        if self.timer is not None:
            self.close()
            took = time.monotonic() - self.started
            cache.note_seconds(self._run(), took * (self.FROM_CACHE if cache.count() != self.kept else 1))

    def close(self):
        """Says nothing any more."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None

    def _guess(self):
        share = self.COMPILED if self.jit else self.TRACED
        return share * IMPORTED * len(self.model.trainable_variables)

    def _run(self):
        plans = [layer.plan_size for layer in layers_of(self.model) if hasattr(layer, "plan_size")]
        return " ".join(map(str, [*self.sizes, self.jit, *plans, keras.__version__]))


class StopWhenNotFinite(keras.callbacks.Callback):
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


class StartSequences(keras.callbacks.Callback):
    """Has a stateful model begin new sequences with every pass over a split.

    Args:
      position: the run's, which may go on within an epoch; None for a single pass.
    """

    def __init__(self, position=None):
        super().__init__()
        self.position = position

    def on_epoch_begin(self, epoch, logs=None):
        if self.position is None or self.position.batch == 0:
            reset_states(self.model)

    def on_test_begin(self, logs=None):
        reset_states(self.model)


class StopAfter(keras.callbacks.Callback):
    """Stops after `steps` optimiser steps, those of earlier sessions counted in."""

    def __init__(self, steps):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch, logs=None):
        if int(self.model.optimizer.iterations) >= self.steps:
            self.model.stop_training = True


class StopWithoutGain(keras.callbacks.Callback):
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


class StopOnSignal(keras.callbacks.Callback):
    """Ends a run at Ctrl-C or SIGTERM, after the step that is under way and with its checkpoint written.

    A second Ctrl-C ends it at once. It is a context manager: after it signals do what they did before.

    Raises:
      Stopped: says where the run is, and how to go on.
    """

    SIGNALS = signal.SIGINT, signal.SIGTERM

    def __init__(self, checkpoints):
        super().__init__()
        self.checkpoints, self.came, self.before = checkpoints, None, ()

    def __enter__(self):
        if threading.current_thread() is threading.main_thread():  # Python gives signals to no other
            self.before = [signal.signal(number, self._note) for number in self.SIGNALS]
        return self

    def __exit__(self, *_):
        for number, handler in zip(self.SIGNALS, self.before, strict=False):
            signal.signal(number, handler)

    def on_train_batch_begin(self, batch, logs=None):
        if self.checkpoints.place.replicas is not None:  # where one is to stop, all do, after the same step
            self.model.asked.stop = self.came is not None

    def on_train_batch_end(self, batch, logs=None):
        if self._due() and self.checkpoints.save():
            self._stop()

    def on_epoch_end(self, epoch, logs=None):
        if self._due():
            self._stop()

    def _due(self):
        return self.came if self.checkpoints.place.replicas is None else self.model.agreed.stop

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
                      + shlex.join([os.path.basename(sys.executable), *command]),
                      128 + (self.came or signal.SIGTERM))
