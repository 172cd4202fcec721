"""The checkpoints of a run, from which it goes on as if it had never stopped."""

import glob
import json
import os
import re
import shutil
import sys
import time

import tensorflow as tf

from santm_tf.access import AccessMask
from santm_tf.keras import carried_states, keras, layers_of, name_of, random_states
from santm_tf.paths import sync, write_whole
from santm_tf.training.carried import Carried
from santm_tf.training.devices import Alone
from santm_tf.training.errors import UsageError
from santm_tf.training.forms import POSITION, misfit
from santm_tf.training.optimizers import constant_rate

KEPT = 3


class Position(tf.train.experimental.PythonState):
    """How far a run is and what it counts: all that a checkpoint holds beside variables.

    Attributes:
      epoch: epochs done. batch: batches done of the next one. seconds: spent on those batches.
      sums: what the training metrics have added up over them.
      best: the best validation figure so far; its sign is such that more is better. waited: epochs since.
      plans: the size of each access mask's plan.

    >>> position = Position()
    >>> position.epoch = 3
    >>> text, again = position.serialize(), Position()
    >>> again.deserialize(text)
    >>> again.epoch, again.best
    (3, -inf)
    """

    KEPT = ("epoch", "batch", "best", "waited", "seconds", "sums", "plans")

    def __init__(self):
        self.epoch = self.batch = self.waited = 0
        self.best, self.seconds, self.sums, self.plans = float("-inf"), 0.0, [], []

    def serialize(self):
        return json.dumps({name: getattr(self, name) for name in self.KEPT})

    def deserialize(self, string):
        found = json.loads(string)
        if why := misfit(found, POSITION):
            raise ValueError(f"its position: {why}")
        if min([found.get(name, 0) for name in ("epoch", "batch", "waited", "seconds")]) < 0:
            raise ValueError("its position: is negative")
        for name in self.KEPT:
            if name in found:
                setattr(self, name, found[name])


class Checkpoints(keras.callbacks.Callback):
    """Saves a run after every epoch and now and then within one, and the best weights by one figure.

    A checkpoint holds the model, the states that it carries from batch to batch, the optimiser and the
    `Position`. An epoch's data, order and random numbers follow from the seed and its number; a layer's
    random numbers follow from its variables. So a run that goes on ends with the weights of one that never
    stopped. TensorFlow renames a checkpoint once it is whole. The last `KEPT` stay. NaN or infinity is never
    saved: it ends the run. Of several processes the chief writes, and all read.

    Attributes:
      last_good: the path of the last checkpoint saved, or of the one restored, or None.

    Args:
      workdir: a `Workdir`.
      task: the `Task`. It names the figure that tells the best weights, and the steps of an epoch.
      ready: of an epoch (from 0) whether its weights may become the best. Those from before the access mask
        is as sparse as asked may not.
      minutes: between two checkpoints at most.
      place: where it trains, see `training.devices`.
    """

    def __init__(self, workdir, task, ready=lambda epoch: True, minutes=10.0, place=None):
        super().__init__()
        self.place = place or Alone()
        self.workdir, self.monitor, self.ready, self.minutes = workdir, task.monitor, ready, minutes
        self.sign = 1.0 if task.monitor_mode == "max" else -1.0
        self.steps, self.position = task.steps_per_epoch, Position()
        self.saved, self.goes_on, self.last_good = time.monotonic(), False, None

    def set_model(self, model):
        super().set_model(model)
        model.optimizer.build(model.trainable_variables)
        self.masks = [layer for layer in layers_of(model) if isinstance(layer, AccessMask)]
        self.carried = Carried(model, self.place)
        # Some layers' states and random numbers would not be saved with the model.
        whole = tf.train.Checkpoint(model=model, optimizer=model.optimizer, place=self.position,
                                    carried=self.carried.whole, random=random_states(model))
        self.last = Kept(whole, os.path.join(self.workdir.path, "checkpoints"), KEPT)
        self.good = best_weights(self.workdir, model)

    @property
    def best(self):
        """The monitored figure of the best weights; infinite before there are any."""
        return self.sign * self.position.best

    def resume(self):
        """Restores the last checkpoint that is whole, if there is any."""
        for manager in (self.last, self.good) * self.place.chief:
            _clear(manager.directory)
        self.place.meet()
        if self.last.saved():
            lost, rate = self._best_is_lost(), constant_rate(self.model.optimizer)
            self.last_good = restore(self.last, self.model, self.workdir)
            if rate is not None:  # the checkpoint has the one of before
                self.model.optimizer.learning_rate = rate
            if lost:
                self.position.best = float("-inf")
            self.carried.spread()
            self.goes_on = self.position.batch > 0
        self.place.refuse_other("--resume: the optimiser's steps", int(self.model.optimizer.iterations))

    def _best_is_lost(self):
        """Whether the best weights are there and cannot be read; the model's weights are others after it."""
        try:
            if self.good.saved():
                restore(self.good, self.model, self.workdir)
        except UsageError as error:
            print(f"warning: {error}; the best of the epochs to come takes its place", file=sys.stderr)
            return True
        return False

    def on_train_batch_begin(self, batch, logs=None):
        if self.place.replicas is not None:  # all save at once, when the chief asks for it
            self.model.asked.save = self.place.chief and self._late()

    def on_epoch_begin(self, epoch, logs=None):
        if self.goes_on:  # other callbacks have made the plans as for an epoch's start
            sizes = [mask.plan_size for mask in self.masks]
            for mask, size in zip(self.masks, self.position.plans, strict=True):
                mask.plan_size = size
            if sizes != self.position.plans:
                self.model.make_train_function(force=True)

    def on_train_batch_end(self, batch, logs=None):
        if self.goes_on:  # now the metrics have their variables
            for variable, before in zip(self._sums(), self.position.sums, strict=True):
                variable.assign_add(before)
            self.goes_on = False
        self.position.batch += 1
        if self._late() if self.place.replicas is None else self.model.agreed.save:
            self.save()

    def on_test_begin(self, logs=None):
        self._note_sums()  # those of an epoch that is not whole; next the metrics score other data

    def on_epoch_end(self, epoch, logs=None):
        score = self.sign * float(logs[self.monitor])
        if self.ready(epoch):
            self.position.waited = 0 if score > self.position.best else self.position.waited + 1
            if score >= self.position.best:
                self.position.best = score
                self._write(self.good)
        if self.position.batch >= self.steps:
            self.position.epoch, self.position.batch = epoch + 1, 0
        self._save()

    def save(self):
        """Saves the run within an epoch, unless fewer than two of its batches are left; says whether it did.

        Two, as the figures of the first step after going on lack those of the steps before.
        """
        if self.position.batch > self.steps - 2:
            return False
        self._note_sums()
        self._save()
        return True

    def _late(self):
        return time.monotonic() - self.saved > 60 * self.minutes

    def _note_sums(self):
        self.position.sums = [variable.numpy().tolist() for variable in self._sums()]

    def _save(self):
        self.position.plans = [mask.plan_size for mask in self.masks]
        self.carried.gather()
        self.last_good = self._write(self.last)
        self.saved = time.monotonic()

    def _write(self, manager):
        step = int(self.model.optimizer.iterations)
        if not is_finite(self.model):
            raise diverged(f"the weights, or what the optimiser keeps of them, are not finite at step {step}",
                           self.last_good)
        return manager.save(step) if self.place.chief else manager.path(step)

    def _sums(self):
        return [variable for metric in self.model.metrics for variable in metric.variables]


class Kept:
    """A checkpoint's folder of files `ckpt-NUMBER`, of which the last ones stay.

    It goes by the files that are there. TensorFlow's `CheckpointManager` goes by its list of them, which a
    power cut leaves empty, and deletes what that names, wherever it is. The list is written for others,
    `tf.train.latest_checkpoint` among them.

    Args:
      checkpoint: a `tf.train.Checkpoint`. directory: its folder. most: how many stay.

    >>> import tempfile
    >>> kept = Kept(tf.train.Checkpoint(v=tf.Variable(1.0)), tempfile.mkdtemp(), most=1)
    >>> path, last = kept.save(9), kept.save(10)
    >>> kept.saved() == [last] == [tf.train.latest_checkpoint(kept.directory)]
    True
    """

    def __init__(self, checkpoint, directory, most):
        self.checkpoint, self.directory, self.most = checkpoint, directory, most
        checkpoint.save_counter  # noqa: B018  # it is made, as earlier checkpoints have it

    def path(self, number):
        """Where the checkpoint of a number is."""
        return os.path.join(self.directory, f"ckpt-{number}")

    def save(self, number=1):
        """Saves what the checkpoint holds, and returns its path. Older ones go once it is on the disk."""
        try:
            path = self.checkpoint.write(self.path(number))
            for file in _parts(path):
                sync(file)
        except BaseException:
            _clear(self.directory)
            raise
        paths = [path, *(before for before in self.saved() if before != path)]
        names = [os.path.basename(kept) for kept in paths[:self.most]]
        listed = [f'model_checkpoint_path: "{names[0]}"',
                  *(f'all_model_checkpoint_paths: "{name}"' for name in reversed(names))]
        write_whole(os.path.join(self.directory, "checkpoint"), "\n".join(listed) + "\n")
        for before in paths[self.most:]:
            for file in _parts(before):
                os.remove(file)
        return path

    def saved(self):
        """The paths of those in the folder, the last first."""
        paths = [path.removesuffix(".index") for path in _files(self.directory, "*.index")]
        numbers = {path: re.fullmatch(r"ckpt-(\d{1,18})", os.path.basename(path)) for path in paths}
        return sorted(filter(numbers.get, paths), key=lambda path: int(numbers[path][1]), reverse=True)


def best_weights(workdir, model):
    """The best weights' checkpoint, `Kept`, which holds no state: it serves any batch size.

    Weights are named by their layer's place in the model and theirs in the layer, alike in both Kerases.
    """
    weights = {f"{i}/{kind}/{j}/{name_of(weight, model).split('/')[-1]}": weight
               for i, layer in enumerate(model.layers)
               for kind in ("trainable_weights", "non_trainable_weights")
               for j, weight in enumerate(getattr(layer, kind))}
    return Kept(tf.train.Checkpoint(weights=weights), os.path.join(workdir.path, "best"), 1)


def is_finite(model):
    """Whether all numbers are finite from which a model goes on, in training where it is compiled."""
    kept = model.optimizer.variables if getattr(model, "optimizer", None) else []
    held = map(tf.convert_to_tensor, [*model.variables, *kept, *carried_states(model)])
    return bool(tf.reduce_all([tf.reduce_all(tf.math.is_finite(value)) for value in held
                               if value.dtype.is_floating]))


def diverged(where, last_good):
    """The error that ends a run at NaN or infinity."""
    return UsageError(f"{where}; the last good checkpoint is {last_good or 'none'}; "
                      "lower --learning_rate or --clip_norm")


def restore(manager, model, workdir):
    """Restores a model from a manager's last checkpoint that is whole and finite, and returns its path.

    It warns of those that it skips.

    Raises:
      UsageError: none is.
    """
    paths = manager.saved()
    if not paths:
        raise UsageError(f"--workdir={workdir.path}: no checkpoint in {manager.directory}; "
                         "train it, with --resume")
    reasons = []
    for path in paths:
        try:
            manager.checkpoint.restore(path).assert_existing_objects_matched().expect_partial()
        except (tf.errors.OpError, ValueError, AssertionError, IndexError, RuntimeError) as error:
            reasons.append(f"{path}: damaged, or of another model ({str(error).strip().splitlines()[0]})")
            continue
        if not is_finite(model):
            reasons.append(f"{path}: holds NaN or infinity")
            continue
        for reason in reasons:
            print(f"warning: {reason}; skipped", file=sys.stderr)
        return path
    raise UsageError(reasons[0])


def _clear(folder):
    """Deletes what a run that was killed while saving has left."""
    for path in _files(folder, "*_temp"):
        shutil.rmtree(path)
    for path in _files(folder, "*.data-*"):
        if not os.path.exists(re.sub(r"\.data-.*$", ".index", path)):
            os.remove(path)


def _parts(path):
    """The files of a checkpoint: first the one without which the others are none."""
    return [path + ".index", *glob.glob(glob.escape(path) + ".data-*")]


def _files(folder, end):
    return glob.glob(os.path.join(glob.escape(folder), f"ckpt-{end}"))
