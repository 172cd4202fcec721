"""A trained run, from its work directory: its flags, its task and its model."""

import os

import tasks
from santm_tf import export
from santm_tf.errors import ArgumentError
from training import flags, models
from training.checkpoints import best_weights, restore
from training.workdir import Workdir

FLAGS = flags.FLAGS


def load_task():
    """The task that the flags name."""
    try:
        task = tasks.load(FLAGS.task, batch_size=FLAGS.batch_size, seed=FLAGS.seed,
                          data_dir=FLAGS.data_dir, **flags.task_options())
    except tasks.TaskError as error:
        raise flags.UsageError(str(error)) from error
    if FLAGS.dynamic_rate and not task.stateful:
        raise flags.UsageError(f"--dynamic_rate: --task={task.name} is no language model; leave it out")
    return task


def load_run():
    """The work directory that the flags name, its task, and its model with the best weights."""
    workdir = Workdir(FLAGS.workdir)
    workdir.check(groups=(flags.MODEL,))
    task = load_task()
    model = models.compiled(task)
    restore(best_weights(workdir, model), workdir)
    return workdir, task, model


def of(path, *more):
    """What `load_run` gives for a work directory, from a program that has no flags of its own.

    Args:
      path: the work directory.
      more: flags that override the run's.
    """
    flags.define()
    flags.forget()
    flags.parse(with_saved_flags(["run", f"--workdir={path}", *more]))
    return load_run()


def check_export():
    """Refuses, before anything else is done, an export that the flags ask for and that cannot be."""
    if FLAGS.export_dir and FLAGS.model != "santm":
        raise flags.UsageError(f"--export_dir: --model={FLAGS.model} cannot be exported; use --model=santm")
    for name in ("tflite", "export_xla"):
        if FLAGS[name].value and not FLAGS.export_dir:
            raise flags.UsageError(f"--{name}: is of an export; give --export_dir, too")
    if FLAGS.export_dir:
        _named_by_flags(export.check, FLAGS.export_dir)


def exported(model):
    """Exports a model as the flags say; returns what its `santm.json` holds."""
    return _named_by_flags(export.export, model, FLAGS.export_dir, FLAGS.export_xla, FLAGS.tflite)


def _named_by_flags(function, *arguments):
    try:
        return function(*arguments)
    except ArgumentError as error:
        raise flags.UsageError(flags.with_flags_named(str(error))) from error
    except OSError as error:
        raise flags.UsageError(f"--export_dir={FLAGS.export_dir}: {error.strerror}") from error


def with_saved_flags(argv):
    """The command line with the run's own flag file before it, so that what is given overrides."""
    given = [a.split("=", 1)[1] for a in argv if a.startswith(("--workdir=", "-workdir="))]
    given += [b for a, b in zip(argv, argv[1:], strict=False) if a in ("--workdir", "-workdir")]
    if given and os.path.exists(os.path.join(given[-1], "flags.cfg")):
        return [argv[0], f"--flagfile={os.path.join(given[-1], 'flags.cfg')}", *argv[1:]]
    return argv
