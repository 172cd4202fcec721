"""Trains a model on a task: `train.py --task=digits --model=santm --workdir=runs/first`."""

import contextlib
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import santm_tf  # noqa: E402, I001  (first: it chooses Keras 2)
import tensorflow as tf  # noqa: E402

from evaluate import results  # noqa: E402
from santm_tf.access import FIXED  # noqa: E402
from training import callbacks, flags, models  # noqa: E402
from training.run import load_task  # noqa: E402
from training.workdir import Checkpoints, Record, Workdir, restore  # noqa: E402

FLAGS = flags.FLAGS
FALL = 0.6  # the share of the epochs over which the access rate comes down to its target


def main():
    tf.keras.utils.set_random_seed(FLAGS.seed)
    task = load_task()
    model = models.compiled(task)
    sparse = (FLAGS.model == "santm" and FLAGS.mask not in FIXED
              and FLAGS.access_rate < FLAGS.initial_access_rate)
    falling = max(1, round(FALL * FLAGS.epochs)) if sparse else 0
    if sparse and FLAGS.mask_warmup >= falling:
        raise flags.UsageError(f"--mask_warmup={FLAGS.mask_warmup}: the rate falls over the first {falling} "
                               "epochs; give fewer")
    workdir = Workdir(FLAGS.workdir)
    workdir.open(FLAGS.resume)
    keep = Checkpoints(workdir, task.monitor, task.monitor_mode,
                       ready=lambda epoch: epoch >= falling - 1)
    keep.set_model(model)
    done = keep.resume() if FLAGS.resume else 0
    task.epoch.assign(done)
    steps = task.steps_per_epoch * FLAGS.epochs
    steps = min(steps, FLAGS.max_steps or steps)
    progress = callbacks.Progress(steps, done * task.steps_per_epoch)
    watch = [progress, callbacks.StartSequences(), callbacks.StopAfter(steps),
             callbacks.StopWhenNotFinite(lambda: keep.last.latest_checkpoint)]
    if sparse:
        watch.append(santm_tf.L0Projection(
            FLAGS.access_rate, falling, FLAGS.mask_warmup, initial_rate=FLAGS.initial_access_rate,
            schedule=FLAGS.mask_schedule))
    record = Record(workdir, done)
    watch += [record, keep, tf.keras.callbacks.TensorBoard(workdir.logs, write_graph=False)]
    with contextlib.closing(progress):
        if int(model.optimizer.iterations) < steps:
            model.fit(task.train, validation_data=task.validation, epochs=FLAGS.epochs,
                      initial_epoch=done, callbacks=watch, verbose=0)
    if keep.good.latest_checkpoint:
        restore(keep.good, workdir)
    result = results(task, model, record.epochs)
    workdir.write_metrics({"epochs": record.epochs, "result": result})
    print(json.dumps(result))


if __name__ == "__main__":
    flags.run(main, sys.argv)
