"""A trained run, from its work directory: its configuration, its task and its model."""

import contextlib
from typing import NamedTuple

from santm_tf import export, tasks
from santm_tf.errors import ArgumentError, extra
from santm_tf.keras import keras
from santm_tf.tasks.task import Task
from santm_tf.training import flags
from santm_tf.training.checkpoints import best_weights, restore
from santm_tf.training.config import MODEL, Config
from santm_tf.training.errors import UsageError
from santm_tf.training.models import compiled, with_flags_named
from santm_tf.training.resolve import resolve
from santm_tf.training.workdir import Workdir


class Trained(NamedTuple):
    """A trained run: its resolved configuration, and its model with the best weights."""

    config: Config
    workdir: Workdir
    task: Task
    model: keras.Model


def load_task(config):
    """The task of a configuration."""
    try:
        return tasks.load(config.task, batch_size=config.run.batch_size, seed=config.run.seed, **config.data)
    except tasks.TaskError as error:
        raise UsageError(str(error)) from error


def load(config):
    """The `Trained` run of a configuration."""
    workdir = Workdir(config.session.workdir)
    workdir.check(config, MODEL)
    task = load_task(config)
    config = resolve(config, task)
    model = compiled(config, task)
    restore(best_weights(workdir, model), model, workdir)
    return Trained(config, workdir, task, model)


def load_folder(path, *more):
    """The `Trained` run of a work directory; the flags `more` override the run's."""
    return load(flags.parse(["run", f"--workdir={path}", *more], saved=True))


def exported(config, model):
    """Exports a model as the configuration says; returns what its `santm.json` holds."""
    session = config.session
    with _of_export_dir(config):
        return export.export(model, session.export_dir, session.export_xla, session.tflite)


def check_export(config):
    """Refuses an `--export_dir` that holds something else, and plots without matplotlib, before the run."""
    if config.session.plots:
        with extra("plots"):
            import matplotlib  # noqa: F401
    if config.session.export_dir:
        with _of_export_dir(config):
            export.check(config.session.export_dir)


@contextlib.contextmanager
def _of_export_dir(config):
    try:
        yield
    except ArgumentError as error:
        raise UsageError(with_flags_named(str(error))) from error
    except OSError as error:
        raise UsageError(f"--export_dir={config.session.export_dir}: {error.strerror}") from error
