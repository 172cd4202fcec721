"""Trains a model: what `train.py` does once its flags are read."""

import contextlib

import tensorflow as tf

from santm_tf import L0Projection
from santm_tf.errors import MissingExtra
from santm_tf.keras import draw_from_saved_states, keras
from santm_tf.training import callbacks, scores
from santm_tf.training.chance import AtChance, tries
from santm_tf.training.checkpoints import Checkpoints, restore, saved
from santm_tf.training.config import MODEL, TASK
from santm_tf.training.dry_run import description
from santm_tf.training.errors import note, say
from santm_tf.training.models import compiled
from santm_tf.training.resolve import falling_epochs, resolve
from santm_tf.training.run import advised, check_export, exported, load_task
from santm_tf.training.workdir import Record, Workdir


def train(config):
    """Trains as a configuration says, and prints the figures on the test split as the last line."""
    session = config.session
    workdir = Workdir(session.workdir or "")  # --dry_run needs none
    check_export(config)
    if config.run.deterministic:
        tf.config.experimental.enable_op_determinism()
    draw_from_saved_states()
    keras.utils.set_random_seed(config.run.seed)
    kept = workdir.read_kept() if session.resume else None
    config = advised(config, kept)
    task = load_task(config, kept)
    config = resolve(config, task)
    model = compiled(config, task)
    if session.dry_run:
        print(description(config, model, task))
        return
    for line in task.about:
        say(line)
    steps = task.steps_per_epoch * config.run.epochs
    steps = min(steps, config.run.max_steps or steps)
    boards = tensorboard(config, workdir, task, steps)
    workdir.open(config)
    workdir.keep(task)
    falling = falling_epochs(config)
    checkpoints = Checkpoints(workdir, task, lambda epoch: epoch >= falling - 1,
                              config.run.checkpoint_minutes)
    checkpoints.set_model(model)
    if session.resume:
        checkpoints.resume()
    record = fit(config, model, task, steps, checkpoints, boards)
    best = {}
    if saved(checkpoints.good):
        restore(checkpoints.good, model, workdir)
        best = {task.monitor: checkpoints.best}
    result = scores.results(config, task, model, record.epochs)
    workdir.write_metrics({"epochs": record.epochs, "best": best, "result": result})
    if boards:
        from santm_tf.training.board import write_result

        write_result(workdir, int(model.optimizer.iterations), result)
    if session.export_dir:
        exported(config, task, model)
    scores.tell(config, workdir, task, model, record.epochs, result)


def tensorboard(config, workdir, task, steps):
    """The callbacks that write for TensorBoard: none where it is not installed."""
    try:
        from santm_tf.training.board import Board
    except MissingExtra as missing:
        if config.session.profile_steps:
            raise
        note(f"nothing for TensorBoard: {missing}")
        return []
    return [Board(config, workdir, task, steps)]


def fit(config, model, task, steps, checkpoints, boards):
    """Trains from where the run is to its last step; returns its `Record`."""
    position, epochs = checkpoints.position, config.run.epochs
    task.epoch.assign(position.epoch)
    bar = callbacks.ProgressBar(steps, epochs, int(model.optimizer.iterations), task.chance)
    record, stop = Record(checkpoints.workdir, position), callbacks.StopOnSignal(checkpoints)
    patience = callbacks.StopWithoutGain(position, config.run.patience)
    sizes = [*config.given(MODEL, TASK).values(), config.run.batch_size]
    compiling = callbacks.SayCompiling(bar.say, sizes, config.run.jit_compile)
    guessing = AtChance(bar.say, task.chance, epochs, tries(config))
    watch = [compiling, guessing, *in_order(config, steps, bar, record, boards, checkpoints, patience, stop)]
    with contextlib.closing(bar), contextlib.closing(compiling), stop:
        while int(model.optimizer.iterations) < steps and not patience.due:
            rest, last = task.train, epochs
            if position.batch:  # what is left of an epoch is a fit of its own
                rest, last = task.train.skip(position.batch), position.epoch + 1
            model.fit(rest, validation_data=task.validation, epochs=last, initial_epoch=position.epoch,
                      callbacks=watch, verbose=0, shuffle=False)  # the data has its order
    return record


def in_order(config, steps, bar, record, boards, checkpoints, patience, stop):
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
                        initial_rate=access.initial_access_rate, schedule=access.mask_schedule,
                        below=access.mask_below, began=_began(access.mask_below, record.epochs))]
          if falling else []),
        record, *boards,  # before the checkpoint: a run that is killed in between writes that epoch again
        checkpoints,
        patience,  # after the checkpoint, which counts the epochs without a gain
        stop,  # last: it ends the run once the checkpoint is saved
    ]


def _began(below, epochs):
    """After how many epochs the loss was first at most so high, None for never."""
    if below is None:
        return None
    return next((figures["epoch"] for figures in epochs if figures["loss"] <= below), None)
