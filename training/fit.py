"""Trains a model: what `train.py` does once its flags are read."""

import contextlib

import tensorflow as tf

from santm_tf import L0Projection
from training import callbacks, scores
from training.board import Board, write_result
from training.checkpoints import Checkpoints, restore, saved
from training.dry_run import description
from training.models import compiled
from training.resolve import falling_epochs, resolve
from training.run import check_export, exported, load_task
from training.workdir import Record, Workdir


def train(config):
    """Trains as a configuration says, and prints the figures on the test split as the last line."""
    run, session = config.run, config.session
    workdir = Workdir(session.workdir or "")  # --dry_run needs none
    check_export(config)
    if run.deterministic:
        tf.config.experimental.enable_op_determinism()
    tf.keras.backend.experimental.enable_tf_random_generator()  # dropout then has a state to save
    tf.keras.utils.set_random_seed(run.seed)
    task = load_task(config)
    config = resolve(config, task)
    model = compiled(config, task)
    if session.dry_run:
        print(description(config, model, task))
        return
    steps = task.steps_per_epoch * run.epochs
    steps = min(steps, run.max_steps or steps)
    board = Board(config, workdir, task, steps)
    workdir.open(config)
    falling = falling_epochs(config)
    checkpoints = Checkpoints(workdir, task, lambda epoch: epoch >= falling - 1, run.checkpoint_minutes)
    checkpoints.set_model(model)
    if session.resume:
        checkpoints.resume()
    record = fit(config, model, task, steps, checkpoints, board)
    if saved(checkpoints.good):
        restore(checkpoints.good, workdir)
    result = scores.results(config, task, model, record.epochs)
    workdir.write_metrics({"epochs": record.epochs, "result": result})
    write_result(workdir, int(model.optimizer.iterations), result)
    if session.export_dir:
        exported(config, model)
    scores.tell(config, workdir, task, model, record.epochs, result)


def fit(config, model, task, steps, checkpoints, board):
    """Trains from where the run is to its last step; returns its `Record`."""
    position, epochs = checkpoints.position, config.run.epochs
    task.epoch.assign(position.epoch)
    bar = callbacks.ProgressBar(steps, epochs, int(model.optimizer.iterations))
    record, stop = Record(checkpoints.workdir, position), callbacks.StopOnSignal(checkpoints)
    patience = callbacks.StopWithoutGain(position, config.run.patience)
    watch = in_order(config, steps, bar, record, board, checkpoints, patience, stop)
    with contextlib.closing(bar), stop:
        while int(model.optimizer.iterations) < steps and not patience.due:
            rest, last = task.train, epochs
            if position.batch:  # what is left of an epoch is a fit of its own
                rest, last = task.train.skip(position.batch), position.epoch + 1
            model.fit(rest, validation_data=task.validation, epochs=last, initial_epoch=position.epoch,
                      callbacks=watch, verbose=0)
    return record


def in_order(config, steps, bar, record, board, checkpoints, patience, stop):
    """The callbacks of a training, in the order in which Keras calls them."""
    position, access, falling = checkpoints.position, config.access, falling_epochs(config)
    return [
        bar,  # shows every step, also the one at which another callback stops the run
        callbacks.StartSequences(position),  # before a step is taken
        callbacks.StopAfter(steps),
        # Before all that writes: nothing of an epoch whose loss is NaN is kept.
        callbacks.StopWhenNotFinite(lambda: checkpoints.last_good),
        # Before what is written: figures and checkpoints are of the projected mask.
        *([L0Projection(access.access_rate, falling, access.mask_warmup,
                        initial_rate=access.initial_access_rate, schedule=access.mask_schedule)]
          if falling else []),
        record, board,  # before the checkpoint: a run that is killed in between writes that epoch again
        checkpoints,
        patience,  # after the checkpoint, which counts the epochs without a gain
        stop,  # last: it ends the run once the checkpoint is saved
    ]
