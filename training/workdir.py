"""A run's folder: its flag file and its figures."""

import json
import os
import time

import tensorflow as tf

from training import flags

FLAGS = flags.FLAGS
# What may change when a run goes on.
FREE = ("epochs", "max_steps", "patience", "checkpoint_minutes", "data_dir", "test_length", "test_repeats",
        "test_items", "test_sequences", "dynamic_rate")


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
        if "," in self.path and not os.path.isdir(self.path):
            raise flags.UsageError(f"--workdir={self.path}: one run has one folder, whose name has no comma")
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


class Record(tf.keras.callbacks.Callback):
    """Writes the figures of every epoch, and its seconds, to metrics.json as the run goes.

    Args:
      workdir: a `Workdir`.
      place: the `Place` at which this session begins; figures of later epochs are of a run that was cut off.
    """

    def __init__(self, workdir, place):
        super().__init__()
        self.workdir, self.place = workdir, place
        self.epochs = workdir.read_metrics()["epochs"][:place.epoch]

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic() - self.place.seconds

    def on_train_batch_end(self, batch, logs=None):
        self.place.seconds = time.monotonic() - self.started

    def on_epoch_end(self, epoch, logs=None):
        figures = {name: float(value) for name, value in logs.items()}
        seconds = round(time.monotonic() - self.started, 3)
        self.place.seconds = 0.0
        self.epochs.append({"epoch": epoch + 1, "seconds": seconds, **figures})
        self.workdir.write_metrics({"epochs": self.epochs})


def _write(path, text):
    """Writes a file whole or not at all."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)
