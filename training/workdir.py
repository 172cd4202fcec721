"""A run's folder: its flag file and its figures."""

import contextlib
import json
import os
import time

from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.paths import literal, writable, write_whole
from santm_tf.training import flags, forms
from santm_tf.training.config import GROUPS
from santm_tf.training.errors import UsageError
from santm_tf.training.lock import held_by, lock
from santm_tf.training.outline import Outline

# What may change when a run goes on, beside how it is tested.
FREE = "epochs", "max_steps", "patience", "checkpoint_minutes", "data_dir", "readers", "dynamic_rate"
LOWERED = "learning_rate", "clip_norm"  # so may these, where they are given: after a loss that was not finite

FOLDERS = "checkpoints", "best", "logs"
FILES = "metrics.json", "data.json", "outline.json", "masks.npy"  # beside flags.cfg
LOCK = "training.lock"


class Workdir:
    """The folder `--workdir`: `flags.cfg`, `metrics.json`, `data.json`, `outline.json`, `masks.npy`,
    `checkpoints/`, `best/`, `logs/`.

    Raises:
      UsageError: TensorFlow would read the path as a pattern, or cannot read it.
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
        self.report, self.plots = os.path.join(path, "report.html"), os.path.join(path, "plots")

    def check_place(self, resume):
        """Refuses a folder in which no run can be made, or gone on with: what can be said before the data."""
        if "," in self.path and not os.path.isdir(self.path):
            raise UsageError(f"--workdir={self.path}: one run has one folder, whose name has no comma")
        with self._of_flag():
            writable(self.path, name="--workdir")
            for name in FOLDERS + FILES:
                writable(os.path.join(self.path, name), name in FOLDERS)
        if os.path.exists(self.flag_file) and not resume:
            raise UsageError(f"--workdir={self.path}: holds a run already; add --resume to go on with "
                             "it, or name another folder")
        found = [name for name in FILES + FOLDERS if os.path.exists(os.path.join(self.path, name))]
        if found and not os.path.exists(self.flag_file):
            raise UsageError(f"--workdir={self.path}: holds {found[0]} and no flags.cfg, so is of no run; "
                             "name another folder")

    @contextlib.contextmanager
    def held(self):
        """Within it no other process trains in the folder, which is made if it is not there.

        Raises:
          UsageError: another one does.
        """
        path = os.path.join(self.path, LOCK)
        with self._of_flag():
            os.makedirs(self.path, exist_ok=True)
            file = lock(path, wait=False, holder=True)
            if file is None:
                raise UsageError(f"--workdir={self.path}: {held_by(path)} trains in it; wait for its end, or "
                                 "name another folder")
        with file:
            yield

    def open(self, config):
        """Prepares the folder for training, or refuses one that another run has filled."""
        self.check_place(config.session.resume)
        if os.path.exists(self.flag_file):
            self.check(config)
        with self._of_flag():
            os.makedirs(self.path, exist_ok=True)
            write_whole(self.flag_file, "\n".join(filter(None, config.texts().values())) + "\n")

    @contextlib.contextmanager
    def _of_flag(self):
        try:
            yield
        except ArgumentError as error:
            raise UsageError(str(error)) from error
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
            if name in LOWERED and name in config.asked:
                continue
            if text != before.get(name, text) and name not in FREE and not name.startswith("test_"):
                raise UsageError(f"{text or '--' + name}: the run in --workdir={self.path} was made with "
                                 f"{before[name] or f'no --{name}'}; give the same, or name another folder")

    def read_kept(self):
        """What the run keeps of its data, `Task.kept`; None for nothing."""
        if not os.path.exists(self.kept_file):
            return None
        return forms.read(self.kept_file, forms.KEPT, "train anew")

    def read_outline(self):
        """The `Outline` of the run's task."""
        if not os.path.exists(self.outline_file):
            raise UsageError(f"--workdir={self.path}: no outline.json there, so its model needs its data; go "
                             "on with the run, by --resume, which writes it")
        found = forms.read(self.outline_file, forms.OUTLINE, "train anew")
        sizes = [found.get(name) for name in ("outputs", "features", "length", "steps", "vocabulary")]
        if any(size is not None and size < 1 for size in (*sizes, *found["categories"])):
            raise UsageError(f"{self.outline_file}: damaged (a size in it is below 1); train anew")
        if found.get("features") is None and found.get("vocabulary") is None:
            raise UsageError(f"{self.outline_file}: damaged (no features and no vocabulary); train anew")
        return Outline.of_facts(found)

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
        return forms.metrics(self.metrics_file)

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
