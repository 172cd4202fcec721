"""From a command line to a `Config`, before TensorFlow is imported; and how a mistake in one is reported."""

import dataclasses
import importlib.resources
import os
import pathlib
import re
import sys

from absl import flags

from santm_tf.errors import ArgumentError, MissingExtra
from santm_tf.paths import open_file, plain
from santm_tf.tasks import PATHS
from santm_tf.training.config import FOLDERS, GROUPS, Session, configured, known
from santm_tf.training.errors import Stopped, UsageError

FILE = "flags.cfg"  # in a run's folder
FLAG_FILE = "--flagfile", "-flagfile"
ALIASES = {"max_memory": "memory_horizon"}  # earlier names
FIRST = ("task", "data_dir", "model", "units", "memory_slots", "access_rate", "epochs", "batch_size",
         "learning_rate", "seed", "workdir", "resume", "dry_run")  # what --help shows


def parse(argv, saved=False):
    """The `Config` of a command line; `--help` and `--helpfull` print it and end the program.

    Args:
      argv: the program's name and its flags.
      saved: begin with the flag file of the run in `--workdir`, so that what is given overrides.

    Raises:
      UsageError: a flag that is wrong, or has no use.
    """
    asked = {arg.lstrip("-") for arg in argv[1:] if arg.startswith("-")}
    if asked & {"h", "help", "helpshort", "helpfull"}:
        print(f"usage: {name_of(argv[0])} [--flagfile=FILE] [flags]\n")
        print(_wrapped("--flagfile: A file of flags. A bare name that is not in the current folder is one of "
                       f"those installed: {', '.join(installed())}."))
        print(_all_flags() if "helpfull" in asked else _first_flags())
        sys.exit(0)
    for old, new in ALIASES.items():
        if old in {name.partition("=")[0] for name in asked}:
            print(f"warning: --{old} is --{new} now", file=sys.stderr)
    given, before = given_in(argv), {}
    if saved and given.get("workdir") and os.path.exists(file := os.path.join(given["workdir"], FILE)):
        before = _of_run(file, lambda line: print(f"warning: {line}", file=sys.stderr))
    config = configured({**before, **given}, before.keys() - given)
    if not config.session.workdir and not config.session.dry_run:
        raise UsageError("--workdir: give the folder of the run, for instance --workdir=runs/first")
    return config


def read(file):
    """The `Config` of a run's flag file, less what has no use."""
    given = _of_run(file)
    return configured(given, given)


def _of_run(file, tell=lambda line: None):
    """What a run's flag file gives: what reproduces the run, and nothing of where and how a process works.

    Whoever made the run wrote it, so that it names neither a place to write to nor another file of flags.
    """
    for line in _lines(file, file):
        if line.partition("=")[0].split(" ")[0] in FLAG_FILE:
            raise UsageError(f"{file}: {line}: a run's own flag file names no other; put its lines here")
    given = given_in(["", f"--flagfile={file}"])
    for name in sorted(given.keys() & {field.name for field in dataclasses.fields(Session)}):
        tell(f"{file}: --{name} is taken from the command line alone, and left out")
        del given[name]
    return given


def name_of(path):
    """A program as it is called, from its path.

    >>> name_of("/usr/bin/santm-train"), name_of("/lib/santm_tf/export/__main__.py"), name_of("train.py")
    ('santm-train', 'python -m santm_tf.export', 'train.py')
    """
    *folders, file = pathlib.PurePath(path.removesuffix("__main__.py")).parts
    return f"python -m santm_tf.{file.removesuffix('.py')}" if folders[-1:] == ["santm_tf"] else file


def installed():
    """The names of the flag files that come with this package.

    >>> "digits.cfg" in installed()
    True
    """
    return sorted(file.name for file in importlib.resources.files("santm_tf.configs").iterdir()
                  if file.name.endswith(".cfg"))


def flag_file(name):
    """The path of a flag file: a bare name that is not in the current folder is one of those `installed`.

    Raises:
      UsageError: it is nowhere.

    >>> flag_file("digits.cfg").rpartition("/")[0] != ""
    True
    """
    path = os.path.expanduser(name)
    try:
        plain("--flagfile", path)
    except ArgumentError as error:
        raise UsageError(str(error)) from error
    if os.path.exists(path):
        return path
    if name not in installed():
        raise UsageError(f"--flagfile={name}: no such file; --help lists those that are installed")
    return str(importlib.resources.files("santm_tf.configs") / name)


def program(main, argv):
    """Runs `main(argv)`. A mistake gives one line and exit code 2, `Stopped` its own code."""
    try:
        main(argv)
    except (UsageError, ArgumentError, MissingExtra) as error:
        line = str(error).replace("\r", "\\r").replace("\n", "\\n")  # of a name that data have, and it quotes
        print(f"error: {line}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.code)


def given_in(argv):
    """What is given on a command line, `{name: text}`; True or False for a flag of that kind.

    Raises:
      UsageError: a flag that there is not.
    """
    argv = [argv[0], *map(_of_one_line, _with_flag_files(argv[1:]))]
    found = flags.FlagValues()
    for group in GROUPS:
        for name, owners in known(group).items():
            switch = next(iter(owners.values())).kind is bool
            (flags.DEFINE_bool if switch else flags.DEFINE_string)(name, None, "", flag_values=found)
    for alias, name in ALIASES.items():
        flags.DEFINE_alias(alias, name, flag_values=found)
    try:
        rest = found(argv)
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from error
    if len(rest) > 1:
        raise UsageError(f"{rest[1]}: not a flag; flags start with --")
    given = {name: found[name].value for name in found if found[name].present and name not in ALIASES}
    for name in given.keys() - {*FOLDERS, *PATHS}:  # which say more of a path
        if any("\ud800" <= character <= "\udfff" for character in str(given[name])):
            raise UsageError(f"--{name}={given[name]!r}: is not in UTF-8; write it so")
    return given | {name: ",".join(map(os.path.expanduser, given[name].split(",")))
                    for name in FOLDERS & given.keys()}


def _of_one_line(argument):
    """An argument as it is. A flag file has one a line, and less the blanks about it."""
    if argument != argument.strip() or set(argument) & {"\n", "\r"}:
        raise UsageError(f"{argument!r}: begins or ends with a blank, or has several lines; leave that out")
    if argument.lstrip("-").partition("=")[0] == "undefok":
        raise UsageError(f"{argument}: there is no such flag; leave out what is not known")
    return argument


def _with_flag_files(argv, within=()):
    """A command line with the lines of its flag files in their places, and of those that they name."""
    rest = iter(argv)
    for argument in rest:
        flag, equals, name = argument.partition("=")
        if flag not in FLAG_FILE:
            yield argument
            continue
        name = name if equals else next(rest, "")
        path = flag_file(name)
        if path in within:
            raise UsageError(f"--flagfile={name}: names itself, by the files in it; leave that line out")
        yield from _with_flag_files(_lines(name, path), (*within, path))


def _lines(name, path):
    """The flags of a flag file, less comments and the mark that an editor writes before UTF-8."""
    try:
        with open_file(path) as file:
            lines = map(str.strip, file.read().decode("utf-8-sig").replace("\r", "\n").split("\n"))
    except UnicodeDecodeError as error:
        raise UsageError(f"--flagfile={name}: not in UTF-8 (byte {error.start}); save it as UTF-8") from error
    except OSError as error:
        raise UsageError(f"--flagfile={name}: {error.strerror}; give a file of flags, one a line") from error
    return [line for line in lines if line and not line.startswith(("#", "//"))]


def _all_flags():
    texts = {group: [_help(name, group) for name in known(group)] for group in GROUPS}
    return "\n".join(f"\n{group}:\n" + "\n".join(lines) for group, lines in texts.items())


def _first_flags():
    group_of = {name: group for group in GROUPS for name in known(group)}
    return "\n".join([*(_help(name, group_of[name], brief=True) for name in FIRST), "",
                      f"--helpfull lists all flags, by {', '.join(GROUPS)}."])


def _help(name, group, brief=False):
    """A flag's text and default, for each of those that take it where they differ; or their beginnings."""
    owners, every = known(group)[name], known(group).get(group, {})
    usual = next((option.help for option in owners.values() if option.help), "")
    takers = {}
    for owner, option in owners.items():
        text = option.help or usual
        if brief:
            text = re.split(r"[.;]( |$)", usual if len(owners) == len(every) else text)[0] + "."
        takers.setdefault((text, option.default), []).append(owner)
    texts = [(f"{', '.join(names)}: " if len(names) < len(every) else "") + help
             + (f" (default: {str(default).lower()})" if default is not None and default is not False else "")
             for (help, default), names in takers.items()]
    return _wrapped(f"--{name}: {' '.join(texts)}")


def _wrapped(text):
    return flags.text_wrap(text, indent="      ", firstline_indent="  ")
