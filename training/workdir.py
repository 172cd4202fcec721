"""A run's folder: its flag file and its figures."""

import json
import os
import time

from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.paths import literal, open_file, write_whole
from santm_tf.training import flags
from santm_tf.training.config import GROUPS
from santm_tf.training.errors import UsageError
from santm_tf.training.outline import Outline

# What may change when a run goes on, beside how it is tested.
FREE = "epochs", "max_steps", "patience", "checkpoint_minutes", "data_dir", "readers", "dynamic_rate"


class Workdir:
    """The folder `--workdir`: `flags.cfg`, `metrics.json`, `data.json`, `outline.json`,
    `checkpoints/`, `best/`, `logs/`.

    Raises:
      UsageError: TensorFlow would read the path as a pattern.
    """

    def __init__(self, path):
        try:
            literal("--workdir", path)
        except ArgumentError as error:
            raise UsageError(str(error)) from error
        self.path = path
        self.flag_file = os.path.join(path, flags.FILE)
        self.metrics_file = os.path.join(path, "metrics.json")
        self.kept_file = os.path.join(path, "data.json")
        self.outline_file = os.path.join(path, "outline.json")
        self.logs = os.path.join(path, "logs")

    def open(self, config):
        """Prepares the folder for training, or refuses one that another run has filled."""
        if os.path.exists(self.path) and not os.path.isdir(self.path):
            raise UsageError(f"--workdir={self.path}: is a file; name a folder")
        if "," in self.path and not os.path.isdir(self.path):
            raise UsageError(f"--workdir={self.path}: one run has one folder, whose name has no comma")
        if os.path.exists(self.flag_file):
            if not config.session.resume:
                raise UsageError(f"--workdir={self.path}: holds a run already; add --resume to go on with "
                                 "it, or name another folder")
            self.check(config)
        try:
            os.makedirs(self.path, exist_ok=True)
            write_whole(self.flag_file, "\n".join(filter(None, config.texts().values())) + "\n")
        except OSError as error:
            raise UsageError(f"--workdir={self.path}: {error.strerror}") from error

    def read_config(self):
        """The configuration of the run that is here."""
        if not os.path.exists(self.flag_file):
            raise UsageError(f"--workdir={self.path}: no flags.cfg there, so no run; train one first")
        return flags.read(self.flag_file)

    def check(self, config, *groups):
        """Refuses a configuration that differs from the run's, in these groups or in all."""
        before = self.read_config().texts(*groups or GROUPS)
        for name, text in config.texts(*groups or GROUPS).items():
            if text != before.get(name, text) and name not in FREE and not name.startswith("test_"):
                raise UsageError(f"{text or '--' + name}: the run in --workdir={self.path} was made with "
                                 f"{before[name] or f'no --{name}'}; give the same, or name another folder")

    def read_kept(self):
        """What the run keeps of its data, `Task.kept`; None for nothing."""
        return _read(self.kept_file, "train anew") if os.path.exists(self.kept_file) else None

    def read_outline(self):
        """The `Outline` of the run's task."""
        if not os.path.exists(self.outline_file):
            raise UsageError(f"--workdir={self.path}: no outline.json there, so its model needs its data; go "
                             "on with the run, by --resume, which writes it")
        found = _read(self.outline_file, "train anew")
        return Outline(**{**found, "categories": tuple(found["categories"])})

    def keep(self, task):
        """Writes what the run keeps of its task: what of its data, `Task.kept`, and the `Outline`."""
        if task.kept is not None:
            write_whole(self.kept_file, json.dumps(task.kept, indent=1) + "\n")
        write_whole(self.outline_file, json.dumps(vars(Outline.of(task)), indent=1) + "\n")

    def read_metrics(self):
        """What metrics.json holds: `{"epochs": [figures of each]}`.

        Of a run that is done it also holds `"best": {figure: value}`, the monitored figure of the best
        weights, nothing where none might become the best; and `"result"`, the last line.
        """
        return _read(self.metrics_file, "delete it") if os.path.exists(self.metrics_file) else {"epochs": []}

    def write_metrics(self, metrics):
        write_whole(self.metrics_file, json.dumps(metrics, indent=1) + "\n")


class Record(keras.callbacks.Callback):
    """Writes the figures of every epoch, and its seconds, to metrics.json as the run goes.

    It begins at the run's position. Figures of later epochs are of a run that was cut off.
    """

    def __init__(self, workdir, position):
        super().__init__()
        self.workdir, self.position = workdir, position
        self.epochs = workdir.read_metrics()["epochs"][:position.epoch]

    def on_epoch_begin(self, epoch, logs=None):
        self.started = time.monotonic() - self.position.seconds

    def on_train_batch_end(self, batch, logs=None):
        self.position.seconds = time.monotonic() - self.started

    def on_epoch_end(self, epoch, logs=None):
        figures = {name: float(value) for name, value in logs.items()}
        seconds = round(time.monotonic() - self.started, 3)
        self.position.seconds = 0.0
        self.epochs.append({"epoch": epoch + 1, "seconds": seconds, **figures})
        self.workdir.write_metrics({"epochs": self.epochs})


def _read(path, advice):
    try:
        with open_file(path) as file:
            return json.load(file)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({error}); {advice}") from error
