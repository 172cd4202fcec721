"""Trains a model on a task: `train.py --task=digits --model=santm --workdir=runs/first`."""

import contextlib
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import santm_tf  # noqa: E402, I001  (first: it chooses Keras 2)
import tensorflow as tf  # noqa: E402

from evaluate import results, tell  # noqa: E402
from santm_tf.access import FIXED  # noqa: E402
from training import callbacks, flags, models  # noqa: E402
from training.board import Board, write_result  # noqa: E402
from training.checkpoints import Checkpoints, restore, saved  # noqa: E402
from training.dry_run import description  # noqa: E402
from training.run import check_export, exported, load_task  # noqa: E402
from training.workdir import Record, Workdir  # noqa: E402

FLAGS = flags.FLAGS
FALL = 0.6  # the share of the epochs over which the access rate comes down to its target


def main():
    if FLAGS.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.keras.backend.experimental.enable_tf_random_generator()  # dropout then has a state to save
    tf.keras.utils.set_random_seed(FLAGS.seed)
    check_export()
    task = load_task()
    model = models.compiled(task)
    falling = falling_epochs()
    if FLAGS.dry_run:
        print(description(model, task))
        return
    workdir = Workdir(FLAGS.workdir)
    steps = task.steps_per_epoch * FLAGS.epochs
    steps = min(steps, FLAGS.max_steps or steps)
    board = Board(workdir, task, steps)
    workdir.open(FLAGS.resume)
    keep = Checkpoints(workdir, task, lambda epoch: epoch >= falling - 1, FLAGS.checkpoint_minutes)
    keep.set_model(model)
    if FLAGS.resume:
        keep.resume()
    record = fit(model, task, steps, keep, falling, board)
    if saved(keep.good):
        restore(keep.good, workdir)
    result = results(task, model, record.epochs)
    workdir.write_metrics({"epochs": record.epochs, "result": result})
    write_result(workdir, int(model.optimizer.iterations), result)
    if FLAGS.export_dir:
        exported(model)
    tell(workdir, task, model, record.epochs, result)


def falling_epochs():
    """Over how many epochs the access rate comes down: none where it does not."""
    if FLAGS.model != "santm" or FLAGS.mask in FIXED or FLAGS.access_rate >= FLAGS.initial_access_rate:
        return 0
    falling = max(1, round(FALL * FLAGS.epochs))
    if FLAGS.mask_warmup >= falling:
        raise flags.UsageError(f"--mask_warmup={FLAGS.mask_warmup}: the rate falls over the first {falling} "
                               "epochs; give fewer")
    return falling


def fit(model, task, steps, keep, falling, board):
    """Trains from where the run is to its last step; returns its `Record`."""
    place = keep.place
    task.epoch.assign(place.epoch)
    done = int(model.optimizer.iterations)
    progress = callbacks.Progress(steps, FLAGS.epochs, done)
    record = Record(keep.workdir, place)
    patience, stop = callbacks.StopWithoutGain(place, FLAGS.patience), callbacks.StopOnSignal(keep)
    watch = [progress, callbacks.StartSequences(place), callbacks.StopAfter(steps),
             callbacks.StopWhenNotFinite(lambda: keep.last_good)]
    if falling:
        watch.append(santm_tf.L0Projection(
            FLAGS.access_rate, falling, FLAGS.mask_warmup, initial_rate=FLAGS.initial_access_rate,
            schedule=FLAGS.mask_schedule))
    watch += [record, board, keep, patience, stop]
    with contextlib.closing(progress), stop:
        while int(model.optimizer.iterations) < steps and not patience.due:
            rest, last = task.train, FLAGS.epochs
            if place.batch:  # what is left of an epoch is a fit of its own
                rest, last = task.train.skip(place.batch), place.epoch + 1
            model.fit(rest, validation_data=task.validation, epochs=last, initial_epoch=place.epoch,
                      callbacks=watch, verbose=0)
    return record


if __name__ == "__main__":
    flags.run(main, sys.argv)
