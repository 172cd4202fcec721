"""Trains a model: what `train.py` does once its flags are read."""

import contextlib
import os

import tensorflow as tf

from santm_tf import L0Projection
from santm_tf.errors import MissingExtra
from santm_tf.keras import draw_from_saved_states, keras
from santm_tf.training import callbacks, devices, scores
from santm_tf.training.chance import AtChance, tries
from santm_tf.training.checkpoints import Checkpoints, restore
from santm_tf.training.config import MODEL, TASK
from santm_tf.training.disk import takes_no_more
from santm_tf.training.dry_run import description
from santm_tf.training.errors import note, say
from santm_tf.training.models import compiled
from santm_tf.training.resolve import falling_epochs, resolve
from santm_tf.training.run import advised, check_exportable, check_places, load_task, of_batches
from santm_tf.training.workdir import Record, Workdir


def train(config):
    """Trains as a configuration says, and prints the figures on the test split as the last line."""
    if config.run.deterministic:
        tf.config.experimental.enable_op_determinism()
    workdir = Workdir(config.session.workdir or "")  # --dry_run needs none
    with devices.started(config) as place, contextlib.ExitStack() as held:
        if place.chief and not config.session.dry_run:
            workdir.check_place(config.session.resume)
            check_places(config, workdir)
            held.enter_context(takes_no_more(workdir.path, "go on with --resume"))
            if os.path.isdir(workdir.path):  # else it is made, and held, once the data are read
                held.enter_context(workdir.held())
        held.enter_context(of_batches())
        _train(config, workdir, place, held)


def _train(config, workdir, place, held):
    session = config.session
    draw_from_saved_states()
    keras.utils.set_random_seed(config.run.seed)
    kept = workdir.read_kept() if session.resume else None
    tell = say if place.chief else lambda line: None
    config = advised(config, kept, tell)
    task = load_task(config, kept, place.share)
    config = resolve(config, task)
    model = compiled(config, task, place.replicas)
    if session.dry_run:
        print(description(config, model, task))
        return
    for line in task.about:
        tell(line)
    steps = task.steps_per_epoch * config.run.epochs
    steps = min(steps, config.run.max_steps or steps)
    boards = []
    if place.chief:
        boards = tensorboard(config, workdir, task, steps)
        check_exportable(config, task, model)
        if not os.path.isdir(workdir.path):
            held.enter_context(workdir.held())
        workdir.open(config)
        workdir.keep(task)
    falling = falling_epochs(config)
    checkpoints = Checkpoints(workdir, task, lambda epoch: epoch >= falling - 1,
                              config.run.checkpoint_minutes, place)
    checkpoints.set_model(model)
    if session.resume:
        checkpoints.resume()
    place.draw_apart(model)
    record = fit(config, model, task, steps, checkpoints, boards)
    place.meet()  # the chief has written
    best = {}
    if checkpoints.good.saved():
        restore(checkpoints.good, model, workdir)
        best = {task.monitor: checkpoints.best}
    result = scores.results(config, task, model, record.epochs, place)
    if not place.chief:
        return
    workdir.write_metrics({"epochs": record.epochs, "best": best, "result": result})
    scores.tell(result)
    if boards:
        from santm_tf.training.board import write_result

        write_result(workdir, int(model.optimizer.iterations), result)
    scores.finish(config, workdir, task, model, record.epochs, result)


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
    position, epochs, place = checkpoints.position, config.run.epochs, checkpoints.place
    task.epoch.assign(position.epoch)
    record, stop = Record(checkpoints.workdir, position), callbacks.StopOnSignal(checkpoints)
    patience = callbacks.StopWithoutGain(position, config.run.patience)
    watch = in_order(config, steps, record, boards, checkpoints, patience, stop)
    train, validation = (task.rows(place.share, data) for data in (task.train, task.validation))
    with contextlib.ExitStack() as stack:
        if place.chief:
            watch = [*stack.enter_context(_shown(config, task, steps, model)), *watch]
        stack.enter_context(stop)
        # The optimiser of half precision does not count the steps that it leaves out; epochs are.
        while int(model.optimizer.iterations) < steps and position.epoch < epochs and not patience.due:
            rest, last = train, epochs
            if position.batch:  # what is left of an epoch is a fit of its own
                rest = task.rows(place.share, task.rest(position.batch))
                last = position.epoch + 1
            model.fit(rest, validation_data=validation, epochs=last, initial_epoch=position.epoch,
                      callbacks=watch, verbose=0, shuffle=False)  # the data has its order
    return record


@contextlib.contextmanager
def _shown(config, task, steps, model):
    """The callbacks that show how a training goes, the bar last."""
    bar = callbacks.ProgressBar(steps, config.run.epochs, int(model.optimizer.iterations), task.chance)
    sizes = [*config.given(MODEL, TASK).values(), config.run.batch_size]
    compiling = callbacks.SayCompiling(bar.say, sizes, config.run.jit_compile)
    with contextlib.closing(bar), contextlib.closing(compiling):
        yield compiling, AtChance(bar.say, task.chance, config.run.epochs, tries(config)), bar


def in_order(config, steps, record, boards, checkpoints, patience, stop):
    """The callbacks of a training, in the order in which Keras calls them."""
    position, access, falling = checkpoints.position, config.access, falling_epochs(config)
    return [
        callbacks.StartSequences(position),  # before a step is taken
        callbacks.StopAfter(steps),
        # Before all that writes: nothing of an epoch whose loss is NaN is kept.
        callbacks.StopWhenNotFinite(lambda: checkpoints.last_good),
        # Before what is written: figures and checkpoints are of the projected mask.
        *([L0Projection(access.access_rate, falling, access.mask_warmup,
                        initial_rate=access.initial_access_rate, schedule=access.mask_schedule,
                        below=access.mask_below, began=_began(access.mask_below, record.epochs))]
          if falling else []),
        # Before the checkpoint: a run that is killed in between writes that epoch again.
        *([record] if checkpoints.place.chief else []), *boards,
        checkpoints,
        patience,  # after the checkpoint, which counts the epochs without a gain
        stop,  # last: it ends the run once the checkpoint is saved
    ]


def _began(below, epochs):
    """After how many epochs the loss was first at most so high, None for never."""
    if below is None:
        return None
    return next((figures["epoch"] for figures in epochs if figures["loss"] <= below), None)
