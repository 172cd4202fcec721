"""Trains a model on a task: `train.py --task=digits --model=santm --workdir=runs/first`."""

import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import santm_tf  # noqa: E402, I001  (first: it chooses Keras 2)
import tensorflow as tf  # noqa: E402

from evaluate import load_task, results  # noqa: E402
from training import callbacks, flags, models  # noqa: E402
from training.workdir import Checkpoints, Workdir, restore  # noqa: E402

FLAGS = flags.FLAGS
FALL = 0.6  # the share of the epochs over which the access rate comes down to its target


def main():
    tf.keras.utils.set_random_seed(FLAGS.seed)
    task = load_task()
    model = models.compiled(task)
    workdir = Workdir(FLAGS.workdir)
    workdir.open(FLAGS.resume)
    sparse = FLAGS.model == "santm" and FLAGS.access_rate < 1
    falling = max(1, round(FALL * FLAGS.epochs)) if sparse else 0
    keep = Checkpoints(workdir, task.monitor, task.monitor_mode,
                       ready=lambda epoch: epoch >= falling - 1)
    keep.set_model(model)
    done = keep.resume() if FLAGS.resume else 0
    task.epoch.assign(done)
    record = workdir.read_metrics() if done else {"epochs": [], "seconds": 0.0}
    steps = task.steps_per_epoch * FLAGS.epochs
    steps = min(steps, FLAGS.max_steps or steps)
    watch = [callbacks.Progress(steps, done * task.steps_per_epoch),
             callbacks.StopWhenNotFinite(lambda: keep.last.latest_checkpoint),
             callbacks.StopAfter(steps)]
    if sparse:
        watch.append(santm_tf.L0Projection(FLAGS.access_rate, epochs=falling))
    record_epoch = tf.keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: record["epochs"].append(
            {"epoch": epoch + 1, **{k: float(v) for k, v in logs.items()}}))
    watch += [keep, record_epoch, tf.keras.callbacks.TensorBoard(workdir.logs, write_graph=False)]
    started = time.monotonic()
    if int(model.optimizer.iterations) < steps:
        model.fit(task.train, validation_data=task.validation, epochs=FLAGS.epochs,
                  initial_epoch=done, callbacks=watch, verbose=0)
    record["seconds"] += time.monotonic() - started
    if keep.good.latest_checkpoint:
        restore(keep.good, workdir)
    record["result"] = results(task, model, len(record["epochs"]), record["seconds"])
    workdir.write_metrics(record)
    print(json.dumps(record["result"]))


if __name__ == "__main__":
    flags.run(main, sys.argv)
