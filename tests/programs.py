"""The programs as a user runs them, but in this process."""

import json

import pytest


def run(program, *argv):
    """Runs a program, one of `training.commands`, as its script does."""
    program(["program", *argv])


def code_of(program, *argv):
    """The exit code of a program."""
    try:
        run(program, *argv)
    except SystemExit as stop:
        return stop.code
    return 0


def refused(capsys, program, *argv):
    """The one line on standard error of a run that ends with exit code 2."""
    with pytest.raises(SystemExit) as stop:
        run(program, *argv)
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip().split("\n")[-1]
    assert line.startswith("error: ")
    return line


def last_line(capsys):
    """The figures that a program printed last."""
    return json.loads(capsys.readouterr().out.strip().split("\n")[-1])
