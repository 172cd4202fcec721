"""A run's folder: its flag file and its figures."""

import json
import os
import time

from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.paths import literal
from santm_tf.training import flags
from santm_tf.training.config import GROUPS
from santm_tf.training.errors import UsageError

# What may change when a run goes on, beside how it is tested.
FREE = "epochs", "max_steps", "patience", "checkpoint_minutes", "data_dir", "dynamic_rate"


class Workdir:
    """The folder `--workdir`: `flags.cfg`, `metrics.json`, `data.json`, `checkpoints/`, `best/`, `logs/`.

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
            _write(self.flag_file, "\n".join(filter(None, config.texts().values())) + "\n")
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
        if not os.path.exists(self.kept_file):
            return None
        try:
            with open(self.kept_file, encoding="utf-8") as file:
                return json.load(file)
        except ValueError as error:
            raise UsageError(f"{self.kept_file}: damaged ({error}); train anew") from error

    def write_kept(self, kept):
        if kept is not None:
            _write(self.kept_file, json.dumps(kept, indent=1) + "\n")

    def read_metrics(self):
        """What metrics.json holds: `{"epochs": [figures of each], "result": the last line}`."""
        try:
            with open(self.metrics_file) as file:
                return json.load(file)
        except FileNotFoundError:
            return {"epochs": []}
        except ValueError as error:
            raise UsageError(f"{self.metrics_file}: damaged ({error}); delete it") from error

    def write_metrics(self, metrics):
        _write(self.metrics_file, json.dumps(metrics, indent=1) + "\n")


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


def _write(path, text):
    """Writes a file whole or not at all."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)
