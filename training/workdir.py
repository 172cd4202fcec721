"""A run's folder: its flag file, its checkpoints and its figures."""

import json
import os
import tempfile
import time

import numpy as np
import tensorflow as tf

from training import flags

FLAGS = flags.FLAGS
# What may change when a run goes on.
FREE = ("epochs", "max_steps", "data_dir", "test_length", "test_repeats", "test_items", "test_sequences",
        "dynamic_rate")


class Workdir:
    """The folder `--workdir`: `flags.cfg`, `metrics.json`, `checkpoints/`, `best/`, `logs/`."""

    def __init__(self, path):
        self.path = path
        self.flag_file = os.path.join(path, "flags.cfg")
        self.metrics_file = os.path.join(path, "metrics.json")
        self.logs = os.path.join(path, "logs")

    def open(self, resume):
        """Prepares the folder for training, or refuses one that another run has filled."""
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise flags.UsageError(f"--workdir={self.path}: is a file; name a folder")
        if os.path.exists(self.flag_file):
            if not resume:
                raise flags.UsageError(f"--workdir={self.path}: holds a run already; add --resume to "
                                       "go on with it, or name another folder")
            self.check()
        try:
            os.makedirs(self.path, exist_ok=True)
            lines = [line for group in flags.GROUPS for line in flags.serialized(group).values()]
            _write(self.flag_file, "\n".join(filter(None, lines)) + "\n")
        except OSError as error:
            raise flags.UsageError(f"--workdir={self.path}: {error.strerror}") from error

    def check(self, groups=(flags.MODEL, flags.OPTIMISER, flags.TASK, flags.RUN)):
        """Refuses flags other than those the run was made with."""
        if not os.path.exists(self.flag_file):
            raise flags.UsageError(f"--workdir={self.path}: no flags.cfg there, so no run; "
                                   "train one with train.py")
        with open(self.flag_file) as file:
            saved = {line.split("=")[0].lstrip("-").removeprefix("no"): line
                     for line in file.read().split("\n")}
        for group in groups:
            for name, text in flags.serialized(group).items():
                # What is not there was not given, or did not exist when the run was made.
                before = saved.get(name, saved.get(name.removeprefix("no"), flags.default(name)))
                if name not in FREE and text != before:
                    raise flags.UsageError(
                        f"{text or '--' + name}: the run in --workdir={self.path} was made with "
                        f"{before or f'no --{name}'}; give the same, or name another folder")

    def read_metrics(self):
        """What metrics.json holds: `{"epochs": [figures of each], "result": the last line}`."""
        try:
            with open(self.metrics_file) as file:
                return json.load(file)
        except FileNotFoundError:
            return {"epochs": []}
        except ValueError as error:
            raise flags.UsageError(f"{self.metrics_file}: damaged ({error}); delete it") from error

    def write_metrics(self, metrics):
        _write(self.metrics_file, json.dumps(metrics, indent=1) + "\n")


class Checkpoints(tf.keras.callbacks.Callback):
    """Saves the run after every epoch, and the best weights by one validation figure.

    Keeps the last three. A checkpoint holds model, optimiser, epoch and best figure, and is written
    under another name first, so a stopped run leaves none half written.

    Args:
      workdir: a `Workdir`.
      monitor, mode: the figure, and "max" or "min".
      ready: of an epoch (from 0) whether its weights may become the best; those from before the
        access mask is as sparse as asked may not.
    """

    def __init__(self, workdir, monitor, mode, ready=lambda epoch: True):
        super().__init__()
        self.workdir, self.monitor, self.ready = workdir, monitor, ready
        self.sign = 1.0 if mode == "max" else -1.0
        self.epoch = tf.Variable(0, dtype=tf.int64, trainable=False)
        self.best = tf.Variable(-np.inf, dtype=tf.float64, trainable=False)

    def set_model(self, model):
        super().set_model(model)
        model.optimizer.build(model.trainable_variables)
        whole = tf.train.Checkpoint(model=model, optimizer=model.optimizer, epoch=self.epoch,
                                    best=self.best)
        self.last = tf.train.CheckpointManager(
            whole, os.path.join(self.workdir.path, "checkpoints"), max_to_keep=3)
        self.good = best_weights(self.workdir, model)

    def resume(self):
        """Restores the last checkpoint, if there is one; returns the number of epochs done."""
        if self.last.latest_checkpoint:
            restore(self.last, self.workdir)
        return int(self.epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.epoch.assign(epoch + 1)
        score = self.sign * logs[self.monitor]
        if self.ready(epoch) and score >= float(self.best):
            self.best.assign(score)
            self.good.save()
        self.last.save()


class Record(tf.keras.callbacks.Callback):
    """Writes the figures of every epoch, and its seconds, to metrics.json as the run goes.

    Args:
      workdir: a `Workdir`.
      done: epochs that the checkpoint holds; figures of later ones are of a run that was cut off.
    """

    def __init__(self, workdir, done):
        super().__init__()
        self.workdir = workdir
        self.epochs = workdir.read_metrics()["epochs"][:done]

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        figures = {name: float(value) for name, value in logs.items()}
        seconds = round(time.monotonic() - self.started, 3)
        self.epochs.append({"epoch": epoch + 1, "seconds": seconds, **figures})
        self.workdir.write_metrics({"epochs": self.epochs})


def best_weights(workdir, model):
    """The manager of the best weights' checkpoint."""
    return tf.train.CheckpointManager(tf.train.Checkpoint(model=model),
                                      os.path.join(workdir.path, "best"), max_to_keep=1)


def restore(manager, workdir):
    """Restores a manager's latest checkpoint, or says in one line why that cannot be."""
    if not manager.latest_checkpoint:
        raise flags.UsageError(f"--workdir={workdir.path}: no checkpoint in {manager.directory}; "
                               "train with train.py (and --resume)")
    try:
        manager.checkpoint.restore(manager.latest_checkpoint).assert_existing_objects_matched()
    except (tf.errors.OpError, ValueError, AssertionError) as error:
        reason = str(error).strip().split("\n")[0]
        raise flags.UsageError(f"{manager.latest_checkpoint}: damaged, or of another model "
                               f"({reason})") from error


def _write(path, text):
    """Writes a file whole or not at all."""
    folder = os.path.dirname(path)
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        file.write(text)
    os.replace(file.name, path)
