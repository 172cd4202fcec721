"""Runs a page's blocks in order, in a folder that looks like a checkout.

`python` blocks share a namespace. `sh` blocks are commands. A `text` block is what the block before it
prints; `...` stands for anything.

Trainings are cut short, by `SHORT` and by `one_batch`; what a page prints after one is compared but for its
numbers. Of `make` it is the training that runs. Of a sweep the flags are read. Benchmarks are looked up, and
asked for `--help`. What `pip install` names is checked against the extras. A server gets a free port, and
ends with its page.
"""

import contextlib
import dataclasses
import doctest
import importlib.metadata
import importlib.util
import io
import os
import pathlib
import re
import runpy
import shlex
import socket
import subprocess
import sys
import time
import unittest
import urllib.request

import pytest
from sybil import Sybil
from sybil.parsers.markdown import CodeBlockParser, PythonCodeBlockParser, SkipParser

from santm_tf import capacity, tasks
from santm_tf.training import commands, sweep_flags
from tests.programs import run

load = tasks.load
SHORT = ["--epochs=1", "--max_steps=2", "--nojit_compile"]
ROOT = pathlib.Path(__file__).parents[1]
SEEN = ("train.py", "evaluate.py", "configs", "benchmarks", "serving", "pretrained",
        "pyproject.toml")  # of the checkout
ABOUT = importlib.metadata.metadata("santm-tf")
PROGRAMS = {"santm-capacity": lambda argv: capacity.main(argv[1:])}
for name, names in (("train", ["train.py", "santm-train"]), ("evaluate", ["evaluate.py", "santm-evaluate"]),
                    ("export", ["santm-export"]), ("inspect", ["santm-inspect"]), ("shard", ["santm-shard"])):
    PROGRAMS |= dict.fromkeys(names, getattr(commands, name))
PROGRAMS["santm-sweep"] = sweep_flags.parse
MODULES = {f"santm_tf.{name}": f"santm-{name}" for name in ("export", "inspect", "capacity")}
PORT = 8500  # what the pages name; another one that is free takes its place
NUMBER = re.compile(r"-?\d[\d,]*(\.\d+)?(e-?\d+)?")
SAME = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def one_batch(name, **given):
    """A task that is scored on one batch."""
    task = load(name, **given)
    return dataclasses.replace(task, validation=task.validation.take(1), test=task.test.take(1))


class Page:
    """One page, and what it has started and printed so far."""

    def __init__(self, path, languages=("python", "sh", "text")):
        parsers = {"python": PythonCodeBlockParser(),
                   "sh": CodeBlockParser("sh", lambda example: self.shell(example.parsed)),
                   "text": CodeBlockParser("text", lambda example: self.compare(example.parsed))}
        parsers = [SkipParser(), *(parsers[language] for language in languages)]
        self.examples = list(Sybil(parsers).parse(path))
        self.printed, self.short, self.servers = "", False, []
        with socket.socket() as free:
            free.bind(("localhost", 0))
            self.port = free.getsockname()[1]

    def run(self):
        """Runs the page. The current folder is the one that it works in."""
        for name in SEEN:
            os.symlink(ROOT / name, name)
        try:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tasks, "load", one_batch)
                for example in self.examples:
                    with contextlib.suppress(unittest.SkipTest), self.printing():
                        example.evaluate()
        finally:
            for server in self.servers:
                server.terminate()
                server.wait()

    @contextlib.contextmanager
    def printing(self):
        """Keeps what a block prints, for the one after it."""
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
                yield
        finally:
            self.printed = out.getvalue()
            print(self.printed)  # which pytest shows where a page fails

    def compare(self, wanted):
        """A block of text is what was printed."""
        got = self.printed
        if self.short:
            wanted, got = (NUMBER.sub("0", text) for text in (wanted, got))
        if not doctest.OutputChecker().check_output(wanted, got, SAME):
            raise AssertionError(f"the page has\n{wanted}\nand what was printed is\n{got}")

    def shell(self, block):
        """Runs the commands of a block, each in this process where it is one of the project's."""
        for command in commands_of(block.replace(f"localhost:{PORT}", f"localhost:{self.port}")):
            words = shlex.split(command.replace("\\\n", ""), comments=True)
            if words and words[0] == "python" and words[1] != "-c":
                words = words[1:]
                if words[0] == "-m":
                    words = [MODULES.get(words[1], words[1]), *words[2:]]
            if not words:
                continue
            if words[0] in PROGRAMS and not set(words) & {"|", ">", "&&"}:
                self.program(*words)
            elif words[0] in ("santm_tf.serving.server", "serving.server"):
                self.serve(words)
            elif words[0].startswith("benchmarks."):
                benchmark(words)
            elif words[:2] == ["pip", "install"]:
                installs(words[2:])
            elif words[0] == "make":
                recipe = bash(f"make --dry-run --directory={ROOT} {shlex.join(words[1:])}")
                self.shell("\n".join(re.findall(r"python train\.py .*", recipe)))
            else:
                print(bash(command), end="")

    def program(self, name, *argv):
        """Runs a program of this project here, which saves the seconds that importing TensorFlow takes."""
        if PROGRAMS[name] is commands.train and not set(argv) & {"--dry_run", "--help", "--helpfull"}:
            argv, self.short = [*argv, *SHORT], True
        try:
            run(PROGRAMS[name], *argv)
        except SystemExit as stop:
            if stop.code:
                raise AssertionError(f"{name} {shlex.join(argv)} ended with {stop.code}") from stop

    def serve(self, words):
        """Starts a server, and waits until it answers."""
        argv = [word for word in words[1:] if not word.startswith("--port=") and word != "&"]
        self.servers.append(subprocess.Popen(
            [sys.executable, "-m", "santm_tf.serving.server", *argv, f"--port={self.port}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
        while self.servers[-1].poll() is None:
            with contextlib.suppress(OSError), urllib.request.urlopen(f"http://localhost:{self.port}/health"):
                return
            time.sleep(0.2)
        raise AssertionError(self.servers[-1].stderr.read())


def commands_of(block):
    """The commands of a block: lines, those that go on after a backslash or have a here-document as one.

    >>> commands_of("a b\\\\\\n  c\\ncat > x <<'EOF'\\n1\\nEOF\\nd")
    ['a b\\\\\\n  c', "cat > x <<'EOF'\\n1\\nEOF", 'd']
    """
    return [match[0] for match in re.finditer(
        r"^.*<<'?(?P<end>\w+)'?.*\n(?:.*\n)*?(?P=end)$|^(?:.*\\\n)*.+$", block, re.MULTILINE)]


def bash(command):
    """What a command of the system's prints."""
    ran = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False,
                         env=os.environ | {"PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"})
    assert ran.returncode == 0, f"{command}\n{ran.stderr}"
    return ran.stdout


def benchmark(words):
    """Benchmarks take minutes to hours: that there is this one, and that it knows its flags."""
    source = pathlib.Path(importlib.util.find_spec(words[0]).origin).read_text()
    assert 'if __name__ == "__main__":' in source, words[0]
    if len(words) > 1:
        out = io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
            argv, sys.argv = sys.argv, [words[0], "--help"]
            try:
                runpy.run_module(words[0], run_name="__main__")
            finally:
                sys.argv = argv
        for word in words[1:]:
            assert word.split("=")[0] in out.getvalue(), f"{words[0]} has no {word}"


def installs(words):
    """What `pip install` names is this project, its extras, or a package that it depends on."""
    extras = ABOUT.get_all("Provides-Extra")
    known = {re.match(r"[\w-]+", need)[0] for need in ABOUT.get_all("Requires-Dist")}
    for word in words:
        found = re.fullmatch(r"(\.|santm-tf|[\w-]+)(?:\[([\w,]+)\])?", word)
        assert found and found[1] in known | {".", "santm-tf"}, f"pip install {word}"
        assert set((found[2] or "").split(",")) <= {*extras, ""}, f"pip install {word}"
