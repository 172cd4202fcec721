"""What a sweep was asked for: from its command line, before TensorFlow is imported."""

import argparse
import dataclasses
import os
from typing import NamedTuple

from santm_tf.errors import ArgumentError
from santm_tf.paths import literal
from santm_tf.training import flags, search_space
from santm_tf.training.config import Config, Session
from santm_tf.training.errors import UsageError

TRIALS, SEEDS = 40, 3
OF_ITS_OWN = {field.name for field in dataclasses.fields(Session)} - {"compile_cache", "max_data_gb"}


class Asked(NamedTuple):
    """A sweep.

    Attributes:
      study: the path of the study's journal. folder: where its trainings work.
      trials: how many the study is to have. seeds: how many train the best flags.
      space: `{name: Dimension}`. given: the other flags, as train.py takes them. config: their `Config`.
    """

    study: str
    folder: str
    trials: int
    seeds: int
    space: dict
    given: list[str]
    config: Config

    def lines(self, params):
        """The flag file of a trial's parameters, a line each, but for the seed."""
        lines = {name: text for name, text in self.config.texts().items()
                 if name in self.config.asked and name != "seed"}
        lines |= {name: self.space[name].option.text(value) for name, value in params.items()}
        return list(lines.values())


class Parser(argparse.ArgumentParser):
    """Mistakes are one line."""

    def error(self, message):
        raise UsageError(message)


def parse(argv):
    """The sweep of a command line, the program's name first.

    Raises:
      UsageError: a flag that is wrong, or has no use.

    >>> asked = parse(["santm-sweep", "--study=runs/a.study", "--task=adding", "--search=units=int(8,64)"])
    >>> asked.folder, asked.trials, asked.lines({"units": 9})
    ('runs/a.study.runs', 40, ['--task=adding', '--units=9'])
    """
    parser = Parser(prog=flags.name_of(argv[0]), allow_abbrev=False, description=(
        "Trains with many values of some flags, and says which are best. Other flags are train.py's."))
    parser.add_argument("--study", required=True, metavar="FILE", type=os.path.expanduser,
                        help="the study, which processes share")
    parser.add_argument("--search", action="append", default=[], metavar="NAME=FORM(...)",
                        help=f"{search_space.FORMS}; once for each flag")
    parser.add_argument("--trials", type=_whole(1), default=TRIALS,
                        help=f"how many the study is to have, of all processes (default: {TRIALS})")
    parser.add_argument("--seeds", type=_whole(0), default=SEEDS,
                        help=f"how many seeds train the best flags (default: {SEEDS})")
    own, given = parser.parse_known_args(argv[1:])
    _check_path(own.study)
    folder = f"{own.study}.runs"
    config = flags.parse([argv[0], f"--workdir={folder}", *given])
    for name in sorted(OF_ITS_OWN & config.asked.keys()):
        if (name, config.asked[name]) != ("workdir", folder):
            raise UsageError(f"--{name}: is for one training, and a sweep has many; leave it out")
    if not own.search:
        raise UsageError("--search: give a flag to search, as in --search='learning_rate=log(1e-4,1e-2)'")
    space = search_space.read(own.search, config)
    for name in space:
        if any(text.startswith(start) for text in given for start in (f"--{name}=", f"-{name}=")):
            raise UsageError(f"--{name}: --search has it, too; leave one out")
    if (points := search_space.points(space)) < own.trials:
        raise UsageError(f"--trials={own.trials}: the search space has {points} points; give as many at most")
    return Asked(own.study, folder, own.trials, own.seeds, space, given, config)


def _whole(least):
    def parsed(text):
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(f"{text} must be a whole number of at least {least}")
        return value

    return parsed


def _check_path(path):
    """Refuses a path that cannot be a study's, before anything is made."""
    try:
        literal("--study", path)
    except ArgumentError as error:
        raise UsageError(str(error)) from error
    if "," in path:
        raise UsageError(f"--study={path}: has a comma; name a file without one")
    if os.path.isdir(path) or not os.path.basename(path):
        raise UsageError(f"--study={path}: is a folder; name a file")
    above = os.path.dirname(os.path.abspath(path))
    while not os.path.exists(above):
        above = os.path.dirname(above)
    if not os.path.isdir(above) or not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(f"--study={path}: nothing can be written in {above}; name another file")
