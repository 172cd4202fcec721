"""The commands `santm-train`, `-evaluate`, `-export`, `-inspect`, `-sweep` and `-shard`.

The first two are scripts, too. Each is a function of a command line, the process's own by default. None needs
TensorFlow to print its help or to refuse a flag.
"""

import argparse
import dataclasses
import functools
import json
import os
import sys

from santm_tf.tasks.options import Option
from santm_tf.training import cache, flags, launch
from santm_tf.training.config import Session, configured
from santm_tf.training.errors import UsageError

SHARDS = Option("shards", 16, kind=int, bounds="[1, 128]")
WORKERS = {"strategy", "devices", "join_seconds"}
EXPORT = {"export_dir", "tflite", "export_xla"}


def command(main):
    """A program of `main(argv)`, where `argv` has its name and its flags: mistakes are one line."""
    @functools.wraps(main)
    def run(argv=None):
        # Not 2: XLA finds fault with every program that was kept, which its own choices of code make unlike
        # what the processor has (openxla/xla#44565). What ends a run is an exception.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        flags.program(main, sys.argv if argv is None else argv)

    return run


@command
def train(argv):
    """Trains a model on a task: `santm-train --task=digits --model=santm --workdir=runs/first`."""
    config = flags.parse(argv)
    if launch.on_devices(config, "train", argv):
        return
    session = config.session
    with cache.kept_programs(session.compile_cache and not session.dry_run):
        from santm_tf.training import fit  # here, as everywhere below: TensorFlow takes seconds

        fit.train(config)


@command
def evaluate(argv):
    """Scores a run's best checkpoint on its task's test split: `santm-evaluate --workdir=runs/first`."""
    config = flags.parse(argv, saved=True)
    session = config.session
    _refuse_others("santm-evaluate", config, {"plots"} | WORKERS | EXPORT)
    paths = [session.workdir] if os.path.isdir(session.workdir) else session.workdir.split(",")
    if len(paths) == 1:
        if launch.on_devices(config, "evaluate", argv):
            return
        with cache.kept_programs(session.compile_cache):
            from santm_tf.training import scores

            scores.evaluate(config)
        return
    if not session.plots:
        raise UsageError(f"--workdir={session.workdir}: several runs are compared with --plots; add it, or "
                         "name one folder")
    from santm_tf.training import comparison

    where, figures = comparison.write(paths)
    print(f"see {where}", file=sys.stderr)
    print(json.dumps(figures))


@command
def export(argv):
    """Exports a run's best weights: `santm-export --workdir=runs/digits --export_dir=FOLDER`."""
    config = flags.parse(argv, saved=True)
    _refuse_others("santm-export", config, EXPORT)
    if not config.session.export_dir:
        raise UsageError("--export_dir: give a folder for the SavedModel")
    from santm_tf.training.run import exported, load

    trained = load(config)
    print(json.dumps(exported(config, trained.task, trained.model)))


@command
def inspect(argv):
    """What a trained SANTM did with one sequence: `santm-inspect --workdir=runs/digits --input=x.npy`."""
    parser = argparse.ArgumentParser(prog=flags.name_of(argv[0]), allow_abbrev=False, description=(
        "What a trained SANTM did with one sequence. Other flags are the run's, and override its own."))
    parser.add_argument("--workdir", required=True, type=os.path.expanduser, help="folder of the run")
    parser.add_argument("--input", required=True, type=os.path.expanduser,
                        help=".npy file, or a text for a model of text")
    parser.add_argument("--out", type=os.path.expanduser, help="folder for figures")
    given, more = parser.parse_known_args(argv[1:])
    config = flags.parse([argv[0], f"--workdir={given.workdir}", "--nojit_compile", *more], saved=True)
    _refuse_others("santm-inspect", config)
    from santm_tf.training import inspect_run

    inspect_run.show(config, given.input, given.out)


@command
def sweep(argv):
    """Searches for the best flags: `santm-sweep --study=FILE --search='units=int(16,128)' --task=digits`."""
    from santm_tf.training import sweep, sweep_flags, sweep_report  # here: Optuna is an extra

    asked = sweep_flags.parse(argv)
    study, runs = sweep.sweep(asked)
    where, figures = sweep_report.write(asked, study, runs)
    print(f"see {where}", file=sys.stderr)
    if "best" not in figures:
        raise UsageError(f"--study={asked.study}: no trial was complete; the report says why each failed")
    print(json.dumps(figures))


@command
def shard(argv):
    """Writes a task as shards, to train from: `santm-shard --task=mnist --data_dir=DATA --out=FOLDER`."""
    parser = argparse.ArgumentParser(prog=flags.name_of(argv[0]), allow_abbrev=False, description=(
        "Writes the examples of a task as TFRecord files, from which santm-train --task=shards trains. Other "
        "flags are the task's, as of santm-train: --task, --data_dir, --seed, --batch_size, --flagfile."))
    parser.add_argument("--out", type=os.path.expanduser,
                        help="folder to write; one of shards that is there is replaced")
    parser.add_argument("--shards", default=str(SHARDS.default), metavar="N",
                        help=f"files for each of the three splits, 1 to 128 (default: {SHARDS.default})")
    own, more = parser.parse_known_args(argv[1:])
    config = configured(flags.given_in([argv[0], *more]))
    _refuse_others("santm-shard", config)
    if not own.out:
        raise UsageError("--out: give the folder to write, for instance --out=shards/mine")
    try:
        shards = SHARDS.parse(own.shards)
    except ValueError as error:
        raise UsageError(str(error)) from error
    from santm_tf.training import sharding

    print(json.dumps({"out": own.out, "shards": shards, **sharding.write(config, own.out, shards)}))


def _refuse_others(program, config, taken=frozenset()):
    """Refuses flags of a session, beside --workdir, that a program has no use for."""
    for field in dataclasses.fields(Session):
        given = getattr(config.session, field.name) != field.default
        if given and field.name not in {"workdir", "compile_cache", "max_data_gb", *taken}:
            raise UsageError(f"--{field.name}: {program} has no use for it; leave it out")
