"""What a run writes for TensorBoard."""

import os
import time

import tensorflow as tf

from santm_tf.access import AccessMask
from santm_tf.analysis.trace import inputs_of, layer_of, trace
from santm_tf.errors import MissingExtra, extra
from santm_tf.keras import keras, last_rate, layers_of, name_of
from santm_tf.training import events, mask_history
from santm_tf.training.card import card, hparams
from santm_tf.training.errors import UsageError, note
from santm_tf.training.gradient_norm import GradientNorm

with extra("plots"):
    from tensorboard.plugins.hparams import api as hp

# The heading of each figure's chart; others are under "figures".
HEADINGS = {"access_rate": "memory", "boundary_rate": "memory", "mean_segment_length": "memory",
            "gradient_norm": "optimiser", "learning_rate": "optimiser", "examples_per_second": "speed"}
SECONDS = 10.0  # between figures within an epoch
SHARE = 0.01  # of the time, at most, goes into views
SHOWN = 2  # validation sequences have views


class Board(keras.callbacks.Callback):
    """Writes a run for TensorBoard, below `logs`: `train`, `validation`, and what the run is.

    - Figures after every epoch, and every 10 seconds within a long one, where Keras's are means since the
      epoch began. With them the gradients' norm before clipping, the learning rate, the mean segment length
      (one over the boundary rate) and the examples trained on a second.
    - Views of the first validation sequences and of the memory (`training.layer_figures`), the access mask
      over training, and histograms of the weights: after the first epoch, at the end, and in between as
      long as they need less than 1 % of the time.
    - A card of the run, its hyperparameters, and the profile of `--profile_steps`.

    The x axis counts the optimiser's steps over the whole run. A run that goes on from a checkpoint first
    deletes what was written after it. The masks are kept as numbers, too: `masks.npy`.

    Args:
      config, task: the run's. workdir: a `Workdir`. steps: of the whole run.

    Raises:
      UsageError: steps to profile that the run does not have.
    """

    def __init__(self, config, workdir, task, steps):
        super().__init__()
        self.profiled = config.profiled or (None, None)
        if config.profiled and config.profiled[1] > steps:
            raise UsageError(f"--profile_steps={config.session.profile_steps}: the run has {steps} steps")
        self.config, self.workdir, self.task = config, workdir, task
        self.norm = self.rows = self.drawn = None
        self.profiling, self.spent = False, 0.0

    def set_model(self, model):
        super().set_model(model)
        if self.norm is None:  # a run may be more than one fit
            self.norm, self.step = GradientNorm(model.optimizer), int(model.optimizer.iterations)
            self.layer, self.began = layer_of(model), time.monotonic()
            self.masks = [layer for layer in layers_of(model) if isinstance(layer, AccessMask)]
            self.rows = mask_history.read(self.workdir.path)
            self._open()

    def _open(self):
        folders = {name: os.path.join(self.workdir.logs, name) for name in ("", "train", "validation")}
        for name, folder in folders.items():
            events.cut(folder, self.step if name else -1)
        about, *writers = map(tf.summary.create_file_writer, folders.values())
        self.train, self.validation = writers
        with about.as_default(step=0):
            tf.summary.text("run", card(self.config, self.model))
            # Without a name of their own runs of the same flags would be one trial.
            hp.hparams(hparams(self.config), trial_id=os.path.basename(os.path.abspath(self.workdir.path)))
        about.close()

    def on_epoch_begin(self, epoch, logs=None):
        self.since = None

    def on_train_batch_begin(self, batch, logs=None):
        if self.step + 1 == self.profiled[0]:
            tf.profiler.experimental.start(os.path.join(self.workdir.logs, "train"))
            self.profiling = True

    def on_train_batch_end(self, batch, logs=None):
        self.step, self.now = self.step + 1, time.monotonic()
        if self.step == self.profiled[1]:
            self._stop_profile()
        if self.since is None:  # the step before may have been compiled first
            self.since = self.step, self.now
        elif self.now - self.since[1] > SECONDS and batch + 1 != self.params["steps"]:
            _write(self.train, self.step, {**logs, **self._speed()})

    def on_epoch_end(self, epoch, logs=None):
        train = {name: value for name, value in logs.items() if not name.startswith("val_")}
        _write(self.train, self.step, {**train, **self._speed()})
        _write(self.validation, self.step, _named(logs, "val_"))
        if self.masks:
            self.rows = mask_history.note(self.workdir.path, epoch, self.masks[0].openings().numpy() > 0)
        if self.drawn is None or self.spent + self.cost <= SHARE * (time.monotonic() - self.began):
            self._draw()
        self._flush()

    def on_train_end(self, logs=None):
        self._stop_profile()
        if self.drawn != self.step:
            self._draw()
            self._flush()

    def _flush(self):
        for writer in (self.train, self.validation):
            writer.flush()

    def _stop_profile(self):
        if self.profiling:
            tf.profiler.experimental.stop()
            self.profiling = False

    def _speed(self):
        """What the optimiser did since it was last asked."""
        optimizer = self.model.optimizer
        figures = {"gradient_norm": self.norm.mean_and_reset(),
                   "learning_rate": last_rate(optimizer)}
        step, then = self.since
        if self.step > step:
            examples = self.config.run.batch_size * (self.step - step)
            figures["examples_per_second"] = examples / (self.now - then)
        self.since = self.step, self.now
        return figures

    def _draw(self):
        began = time.monotonic()
        with self.train.as_default(self.step):
            for weight in self.model.trainable_weights:
                tf.summary.histogram(f"weights/{name_of(weight, self.model)}", weight)
        with self.validation.as_default(self.step):
            for name, image, about in self._views():
                tf.summary.image(name, tf.image.decode_png(image)[None], description=about)
        self.drawn, self.cost = self.step, time.monotonic() - began
        self.spent += self.cost

    def _views(self):
        """Of each view that the model has: its name, the PNG file's bytes, and how to read it."""
        try:
            from santm_tf.training import layer_figures, report  # here, as matplotlib takes a while to import
        except MissingExtra as missing:
            note(f"no views for TensorBoard: {missing}")
            return

        def narrow(figure):
            """As wide as the letters can be read in one of TensorBoard's cards."""
            figure.set_figwidth(6.4)
            return layer_figures.png(figure)

        if self.rows is not None:
            mask = report.mask_view(self.rows)
            yield f"memory/{mask.name}", narrow(mask.figure), mask.reading
        if self.layer is None:
            return
        x = next(iter(self.task.validation))[0][:SHOWN]
        seen = trace(self.layer, *inputs_of(self.model, x))
        for view in report.memory_views(self.layer, seen):
            yield f"memory/{view.name}", narrow(view.figure), view.reading
        for row in range(len(x)):
            for view in report.sequence_views(self.layer, seen, row, x, self.task):
                written = view.name == "segments" and self.task.lexicon is not None
                image = layer_figures.png(view.figure) if written else narrow(view.figure)
                yield f"sequence_{row + 1}/{view.name}", image, view.reading


def write_result(workdir, step, result):
    """Writes a run's figures on the test split, below `logs/test`.

    Args:
      workdir: a `Workdir`. step: the optimiser's at the end. result: see `training.scores.results`.
    """
    folder = os.path.join(workdir.logs, "test")
    events.cut(folder, -1)
    writer = tf.summary.create_file_writer(folder)
    _write(writer, step, _named(result, "test_"))
    writer.close()


def _named(figures, start):
    """The figures whose names have this start, without it."""
    return {name[len(start):]: value for name, value in figures.items() if name.startswith(start)}


def _write(writer, step, figures):
    if figures.get("boundary_rate"):
        figures["mean_segment_length"] = 1 / figures["boundary_rate"]
    with writer.as_default(step):
        for name, value in figures.items():
            tf.summary.scalar(f"{HEADINGS.get(name, 'figures')}/{name}", value)
