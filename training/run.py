"""A trained run, from its work directory: its configuration, its task and its model."""

import contextlib
import math
import os
import re
from typing import NamedTuple

import tensorflow as tf

from santm_tf import export, tasks
from santm_tf.answers import Answer
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras
from santm_tf.machine import check_fits
from santm_tf.tasks import sources
from santm_tf.tasks.share import WHOLE
from santm_tf.tasks.task import Task
from santm_tf.training import flags
from santm_tf.training.checkpoints import best_weights, restore
from santm_tf.training.config import MODEL, Config, configured
from santm_tf.training.errors import UsageError, say
from santm_tf.training.models import build, compiled, with_flags_named
from santm_tf.training.resolve import resolve
from santm_tf.training.workdir import FOLDERS, Workdir

# Where one of them is given, none of the others is advised: they go together.
TOGETHER = ({"access_rate", "initial_access_rate", "mask", "mask_surrogate", "mask_warmup", "mask_schedule",
             "mask_below"},
            {"segment_length", "boundaries", "boundary_penalty"})


class Trained(NamedTuple):
    """A trained run: its resolved configuration, and its model with the best weights."""

    config: Config
    workdir: Workdir
    task: Task
    model: keras.Model


def advised(config, kept=None, tell=say):
    """The configuration with what the task's data advise in the place of defaults; says each, and why.

    `kept` is what a run that goes on keeps of its data; `tell` a function of a line.
    """
    with of_task(config):
        advice = tasks.advice(config.task, kept=kept, **config.data)
    asked = set(config.asked).union(*(group for group in TOGETHER if group & config.asked.keys()))
    if config.layer.get("mask") == "adaptive":
        asked.add("mask_period")  # which it has not
    taken = {option.name: option for option in config.values() if option.name not in asked}
    chosen = {name: value for name, (value, _) in advice.items() if name in taken}
    for name, value in chosen.items():
        tell(f"{taken[name].text(value)}: {advice[name][1]}")
    return configured({**config.asked, **chosen})


def load_task(config, kept=None, share=WHOLE):
    """The task of a configuration; `kept` is what a run keeps of its data, for `share` see `tasks.load`."""
    with of_task(config):
        task = tasks.load(config.task, batch_size=config.run.batch_size, seed=config.run.seed, kept=kept,
                          share=share, **config.data)
    _check_batches(config, task)
    return task


def _check_batches(config, task):
    """Refuses a task of whose batches one does not fit into this machine's memory."""
    rows, needed = config.run.batch_size, 0
    for data in task.train, task.validation, task.test:
        for spec in tf.nest.flatten(data.element_spec):
            sizes = [rows, *(size or 1 for size in spec.shape[1:])]
            needed = max(needed, math.prod(sizes) * spec.dtype.size)
    try:
        check_fits(f"--task={task.name}: a batch of --batch_size={rows}", needed,
                   "use shorter sequences, or fewer in a batch")
    except ArgumentError as error:
        raise UsageError(str(error)) from error


def load(config, share=WHOLE, replicas=None):
    """The `Trained` run of a configuration; for `share` see `load_task`, for `replicas` `models.build`."""
    workdir = Workdir(config.session.workdir)
    workdir.check(config, MODEL)
    task = load_task(config, workdir.read_kept(), share)
    config = resolve(config, task)
    model = compiled(config, task, replicas)
    restore(best_weights(workdir, model), model, workdir)
    return Trained(config, workdir, task, model)


def load_folder(path, *more):
    """The `Trained` run of a work directory; the flags `more` override the run's."""
    return load(flags.parse(["run", f"--workdir={path}", *more], saved=True))


def load_model(path, *more):
    """The Keras model of a work directory's run, with its best weights, not compiled; no data are read.

    The flags `more` override the run's.
    """
    config, workdir = flags.parse(["run", f"--workdir={path}", *more], saved=True), Workdir(path)
    workdir.check(config, MODEL)
    model = build(config, workdir.read_outline())
    restore(best_weights(workdir, model), model, workdir)
    return model


def exported(config, task, model):
    """Exports a model of a task as the configuration says; returns what its `santm.json` holds."""
    session = config.session
    with _of_export_dir(config):
        return export.export(model, session.export_dir, session.export_xla, session.tflite, task.front,
                             answer_of(task))


def answer_of(task):
    """What a model of a task answers, an `Answer`: the task's own, or the names of its classes."""
    if task.answer or not isinstance(task.loss, keras.losses.SparseCategoricalCrossentropy):
        return task.answer
    names = task.classes or range(task.outputs)
    if task.return_sequences and task.lexicon:
        tokens = task.lexicon().tokens
        names = [tokens.get(n, "") for n in range(task.outputs)]
    return Answer("class", list(map(str, names)))


def check_places(config, workdir):
    """Refuses an `--export_dir` or `--plots` that could not be written, first; plots need matplotlib.

    Args:
      workdir: the run's `Workdir`, without a path where nothing is trained.
    """
    session = config.session
    if session.plots:
        from santm_tf.training import page  # here: matplotlib is an extra

        page.check(workdir.report, workdir.plots)
    if session.export_dir:
        with _of_export_dir(config):
            export.check(session.export_dir)
        place, ours = map(os.path.realpath, (session.export_dir, workdir.path))
        kept = {os.path.join(ours, name) for name in (*FOLDERS, "plots")}
        if workdir.path and (place in kept or os.path.commonpath([place, ours]) == place):
            raise UsageError(f"--export_dir={session.export_dir}: --workdir={workdir.path} is there; name "
                             "another folder")


def check_exportable(config, task, model):
    """Refuses an export of a model that cannot be served, before it is trained."""
    if config.session.export_dir:
        with _of_export_dir(config):
            export.servable(model, config.session.export_xla, config.session.tflite, answer_of(task))


@contextlib.contextmanager
def of_task(config):
    """What a task refuses is a user's mistake; it reads no more data than the configuration says."""
    try:
        with sources.at_most(config.session.max_data_gb):
            yield
    except tasks.TaskError as error:
        raise UsageError(str(error)) from error


@contextlib.contextmanager
def of_batches():
    """What a task refuses while batches are drawn is a user's mistake; TensorFlow's error quotes it."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"\bTaskError: (.*)", error.message)
        if found is None:
            raise
        raise UsageError(found[1]) from error


@contextlib.contextmanager
def _of_export_dir(config):
    try:
        yield
    except ArgumentError as error:
        raise UsageError(with_flags_named(str(error))) from error
    except OSError as error:
        raise UsageError(f"--export_dir={config.session.export_dir}: {error.strerror}") from error
