"""What XLA compiles is kept for the next run, and a long compilation is said."""

import contextlib
import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import types

import pytest
import tensorflow as tf

from santm_tf.training import cache, callbacks, fit, scores
from santm_tf.training.commands import evaluate, train
from santm_tf.training.errors import note
from tests.programs import run

FLAGS, DIRECTORY = "TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory"
TRAIN = """
import sys
sys.modules["tensorboard"] = None  # whose import takes seconds
from santm_tf.training.commands import train
train(sys.argv)
"""
TINY = ["--task=adding", "--length=5", "--model=lstm", "--units=2", "--batch_size=8", "--max_steps=1"]


@pytest.fixture
def home(monkeypatch, tmp_path):
    """The user's cache folder, empty, as a process sees it that has not imported TensorFlow."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home of o'x"))
    monkeypatch.delenv(FLAGS, raising=False)
    monkeypatch.delitem(sys.modules, "tensorflow")
    return tmp_path / "home of o'x"


@pytest.fixture
def kept(home):
    """The folder of the programs, in use."""
    with cache.kept_programs(True):
        yield cache.folder()


def started(folder, home, *flags):
    environment = {name: value for name, value in os.environ.items() if name != FLAGS}
    return subprocess.Popen([sys.executable, "-c", TRAIN, *TINY, f"--workdir={folder}", *flags], text=True,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            env=environment | {"XDG_CACHE_HOME": str(home)})


def figures(process):
    """What a training printed, less its time."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return {name: value for name, value in json.loads(out).items() if name != "seconds"}


def programs(home):
    """The kept programs and when they were written."""
    return {file.name: file.stat().st_mtime_ns for file in home.glob("santm_tf/xla/*/*.pb")}


def test_programs_are_kept_for_the_next_run_even_by_two_at_once(tmp_path):
    home = tmp_path / "home"
    first, second = (started(tmp_path / name, home) for name in ("one", "two"))
    expected = figures(first)
    assert figures(second) == expected
    seconds, = home.glob("santm_tf/xla/*/seconds.json")
    assert len(json.loads(seconds.read_text())) == 1

    kept = programs(home)
    damaged, *whole = sorted(kept)
    assert whole  # forward and backward are two
    file, = home.rglob(damaged)
    file.write_bytes(file.read_bytes()[:-100])
    assert figures(started(tmp_path / "three", home)) == expected
    now = programs(home)
    assert now.keys() == kept.keys()
    assert {name for name in kept if now[name] != kept[name]} == {damaged}  # what is compiled is written


@pytest.fixture
def asked(monkeypatch):
    """Whether the programs that are run want others kept."""
    asked = []
    monkeypatch.setattr(cache, "kept_programs", lambda kept: asked.append(kept) or contextlib.nullcontext())
    for module, name in (fit, "train"), (scores, "evaluate"):
        monkeypatch.setattr(module, name, lambda config: None)
    return asked


@pytest.mark.parametrize("program, flags, kept", [
    (train, [], True), (train, ["--nocompile_cache"], False), (train, ["--dry_run"], False),
    (evaluate, [], True), (evaluate, ["--nocompile_cache"], False)])
def test_a_flag_switches_it_off(asked, tmp_path, program, flags, kept):
    run(program, f"--workdir={tmp_path}", *flags)
    assert asked == [kept]


def test_its_flag_is_added_to_the_users(home, monkeypatch):
    monkeypatch.setenv(FLAGS, "--tf_xla_clustering_debug")
    with cache.kept_programs(True):
        given, directory, cpu = os.environ[FLAGS].split(" --")
    assert given == "--tf_xla_clustering_debug" and cpu == "tf_xla_persistent_cache_device_types=CPU"
    assert directory == f'tf_xla_persistent_cache_directory="{cache.folder()}"'
    assert cache.folder().is_dir() and cache.folder().parent == home / "santm_tf" / "xla"


@pytest.mark.parametrize("flags", [f"{DIRECTORY}=/own", f"{DIRECTORY}=", "/a/file/of/flags"])
def test_what_the_user_set_stays(home, monkeypatch, flags):
    monkeypatch.setenv(FLAGS, flags)
    with cache.kept_programs(True):
        assert os.environ[FLAGS] == flags
    assert cache.count() is None and not home.exists()


def test_it_does_nothing_once_tensorflow_is_imported(home, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorflow", tf)
    with cache.kept_programs(True):
        assert FLAGS not in os.environ
    assert not home.exists()


@pytest.mark.parametrize("free, reason", [(None, "Not a directory"), (2**20, "no space left")])
def test_a_folder_of_no_use_is_said_in_a_line(home, monkeypatch, capsys, free, reason):
    note.cache_clear()
    if free is None:
        home.write_text("a file")
    else:
        monkeypatch.setattr(cache.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=free))
    with cache.kept_programs(True):
        assert FLAGS not in os.environ
    line = f"note: what XLA compiles is not kept for the next run: {cache.folder()}: {reason}\n"
    assert capsys.readouterr().err == line


def test_the_folder_is_the_machines_and_the_flags(home, monkeypatch):
    here = cache.folder()
    assert cache.folder() == here
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    other = cache.folder()
    monkeypatch.setattr(os, "cpu_count", lambda: 1000)
    assert len({here, other, cache.folder()}) == 3


def test_without_xdg_it_is_in_the_home_folder(home, monkeypatch):
    for value in "", "relative/folder":
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache.folder().parent == pathlib.Path.home() / ".cache" / "santm_tf" / "xla"


def test_the_programs_used_last_stay(home, monkeypatch):
    monkeypatch.setattr(cache, "MOST", 25)
    folder = cache.folder()
    other = folder.parent / "other"
    for place in folder, other:
        place.mkdir(parents=True)
    for used, file in enumerate([other / "a.pb", folder / "b.pb", other / "c.pb", folder / "empty.pb"]):
        file.write_bytes(b"\x0a\x08program." * (file.name != "empty.pb"))
        os.utime(file, (used, 0))
    with cache.kept_programs(True):
        assert {file.name for file in home.rglob("*.pb")} == {"b.pb", "c.pb"}


@pytest.mark.parametrize("error, left", [(tf.errors.OutOfRangeError(None, None, ""), 0), (ValueError(), 1)])
def test_an_error_of_tensorflows_empties_the_folder(home, error, left):
    with pytest.raises(type(error)), cache.kept_programs(True):
        (cache.folder() / "a.pb").write_text("x")
        raise error
    assert len(list(cache.folder().glob("*.pb"))) == left


def test_seconds_are_noted(kept):
    assert cache.seconds() == {}
    cache.note_seconds("a", 2.04)
    cache.note_seconds("b", 30)
    cache.note_seconds("a", 1)
    assert cache.seconds() == {"a": 1, "b": 30}
    for number in range(300):
        cache.note_seconds(str(number), 1)
    assert len(cache.seconds()) == cache.RUNS and "299" in cache.seconds()
    assert [file.name for file in kept.iterdir()] == ["seconds.json"]


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", "\0\xff", '{"a": "x"}', '{"a": NaN}', '{"a": -1}'])
def test_a_damaged_file_of_seconds_is_as_none(kept, text):
    (kept / "seconds.json").write_bytes(text.encode("latin-1"))
    assert cache.seconds() == {}
    cache.note_seconds("a", 5)
    assert cache.seconds() == {"a": 5}


class Compiling:
    """A callback, its model, and what it says."""

    def __init__(self, variables=100, **options):
        self.said = []
        self.callback = callbacks.SayCompiling(self.said.append, ["--model=lstm"], jit=True, **options)
        self.callback.AFTER = 0.05
        self.model = types.SimpleNamespace(trainable_variables=[0] * variables, train_function=object())
        self.callback._model = self.callback.model = self.model

    def step(self, seconds):
        self.callback.on_train_batch_begin(0)
        time.sleep(seconds)
        self.callback.on_train_batch_end(0)


@pytest.fixture
def compiling(monkeypatch):
    monkeypatch.setattr(callbacks.SayCompiling, "model", None, raising=False)  # a property of Keras 3's
    monkeypatch.setattr(callbacks, "IMPORTED", 2.0)
    return Compiling


def test_a_long_first_step_is_said_once(compiling):
    made = compiling()
    made.step(0.2)
    made.step(0.2)
    assert made.said == ["compiling, about 30 s"]  # 0.15 of 2 s a variable
    made.model.train_function = object()  # as a plan that has shrunk has it made anew
    made.step(0.2)
    assert len(made.said) == 2


def test_a_short_first_step_is_not(compiling):
    made = compiling()
    made.step(0)
    time.sleep(0.2)
    assert not made.said


def test_a_run_that_fails_in_its_first_step_says_nothing_afterwards(compiling):
    made = compiling()
    made.callback.on_train_batch_begin(0)
    made.callback.close()
    time.sleep(0.2)
    assert not made.said


def test_the_seconds_are_those_of_the_last_one(kept, compiling):
    made = compiling()
    made.step(0.2)
    (_, noted), = cache.seconds().items()
    assert noted == pytest.approx(0.2, abs=0.15)
    cache.note_seconds(*cache.seconds(), 42)
    again = compiling()
    again.step(0.2)
    assert again.said == ["compiling, about 42 s"]


def test_what_was_compiled_and_kept_takes_less_the_next_time(kept, compiling):
    made = compiling()
    made.callback.on_train_batch_begin(0)
    (kept / "program.pb").write_text("x")
    made.callback.started -= 100
    made.callback.on_train_batch_end(0)
    assert [*cache.seconds().values()] == [pytest.approx(35, abs=1)]


def test_it_is_said_above_the_bar(monkeypatch, capsys):
    tqdm = pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    bar = callbacks.ProgressBar(steps=5, epochs=1)
    assert isinstance(bar.bar, tqdm.tqdm)
    thread = threading.Thread(target=bar.say, args=["compiling, about 9 s"])
    thread.start()
    thread.join()
    bar.on_train_batch_end(0, {"loss": 1.0})
    bar.close()
    shown = capsys.readouterr().err
    line, = (line for line in shown.split("\n") if "compiling" in line)
    assert line.endswith("\rcompiling, about 9 s") and "1/5" in shown
