"""Command lines made from the flags' own definitions, right and wrong ones."""

import contextlib
import dataclasses
import functools
import io
import os
import tempfile
from unittest import mock

import hypothesis.strategies as st

from santm_tf import baselines, machine, tasks
from santm_tf.training import flags
from santm_tf.training.config import GROUPS, Session, known, options
from santm_tf.training.models import build
from santm_tf.training.resolve import resolve
from santm_tf.training.run import advised, load_task

ODD = [
    "",
    " ",
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    "1",
    "2",
    "0.5",
    "1e999",
    "1e39",
    "-0.0",
    "1e-320",
    "9" * 12,
    "9" * 5000,
    "0x10",
    "1_0",
    "٣",
    " 3",
    "3 ",
    "a\nb",
    "a\r",
    "a\u2028b",
    "\0",
    "\ud800",
    "é",
    "None",
    "true",
    "false",
    "a,b",
    ",",
    "*?[",
    "~",
    "..",
    "/dev/null",
    "/dev/zero",
    "x" * 5000,
    "#",
    "//",
    "--seed=3",
    '"',
    "'",
    "=",
    "[1]",
    "{}",
]
LARGEST = 2**27  # bytes of memory that the machine is said to have
ALL = {name: owners for group in GROUPS for name, owners in known(group).items()}
GENERATED = [name for name in tasks.NAMES if "data_dir" not in tasks.options(name)]


def _values(option):
    """Values of an option: usual ones, those about its bounds, and odd ones."""
    found = [*option.choices, *ODD]
    for end in filter(None, option.bounds[1:-1].split(", ") if option.bounds else ()):
        found += [
            end,
            *(str(float(end) + by) for by in (-1, -1e-9, 1e-9, 1)),
            *(str(int(float(end)) + by) for by in (-1, 0, 1) if float(end) - float(end) == 0),
        ]
    usual = {int: st.integers(1, 40).map(str), float: st.floats(0, 1).map(str)}.get(
        option.kind, st.sampled_from(found)
    )
    return st.one_of(usual, usual, st.sampled_from(found), st.text(max_size=8))


@st.composite
def argument(draw, names=tuple(ALL)):
    """A flag, of these names, and a value."""
    name = draw(st.sampled_from(names))
    option = draw(st.sampled_from(list(ALL[name].values())))
    if option.kind is bool:
        return draw(
            st.sampled_from([f"--{name}", f"--no{name}", f"--{name}=true", f"--{name}=", f"--{name}=2"])
        )
    form = draw(st.integers(0, 29))
    return f"--{name}" if form == 0 else f"--no{name}" if form == 1 else f"--{name}={draw(_values(option))}"


@st.composite
def cases(draw):
    """Arguments of a training: most of one model and one task, some of any."""
    model, task = draw(st.sampled_from(baselines.NAMES)), draw(st.sampled_from([*GENERATED, *tasks.NAMES]))
    own = [name for group in GROUPS for name in options(model, task, group)]
    found = [f"--model={model}", f"--task={task}", "--units=4", "--workdir=runs/none"]
    found += draw(st.lists(argument(own), max_size=5)) + draw(
        st.lists(argument(), max_size=1) if draw(st.integers(0, 5)) == 0 else st.just([])
    )
    junk = st.text(max_size=6) | st.sampled_from(
        [
            "--",
            "-",
            "--=",
            "--flagfile",
            "--flagfile=",
            "--undefok=units",
            "--flagfile=/dev/zero",
            "--flagfile=nowhere.cfg",
        ]
    )
    return found + ([draw(junk)] if draw(st.integers(0, 9)) == 0 else [])


def check(argv):
    """The flag file of what is accepted gives the same again; then its task and its model are made."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            config = flags.parse(["run", *argv])
        except SystemExit as end:  # as after --help
            assert end.code == 0
            return
        path = os.path.join(_folder(), flags.FILE)
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write("\n".join(filter(None, config.texts().values())) + "\n")
        again = flags.read(path)
        assert dataclasses.replace(again, session=Session()) == dataclasses.replace(config, session=Session())
        if "data_dir" not in config.data and not config.around.match_parameters:
            _made(config)


def _made(config):
    with mock.patch.object(machine, "memory", lambda: LARGEST):
        config = advised(config, tell=lambda line: None)
        task = load_task(config)
        build(resolve(config, task), task)


@functools.cache
def _folder():
    return tempfile.mkdtemp(prefix="fuzz-")
