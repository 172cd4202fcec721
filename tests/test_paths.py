"""Paths that TensorFlow takes for patterns: which they are, and that no program writes or reads there."""

import os
import string

import pytest
import tensorflow as tf

from santm_tf import load_model
from santm_tf.errors import ArgumentError
from santm_tf.export import export
from santm_tf.keras import keras
from santm_tf.paths import is_literal
from santm_tf.training import commands
from tests.programs import refused, run

PATTERNS = "[ab]", "lr=[0.1]", "a*", "*", "?", r"\a"


def saved_twice(folder):
    """The files of a manager that keeps one checkpoint, after two."""
    manager = tf.train.CheckpointManager(tf.train.Checkpoint(v=tf.Variable(0.0)), str(folder), max_to_keep=1)
    manager.save()
    manager.checkpoint.v.assign(1.0)
    path = manager.save()
    manager.checkpoint.v.assign(2.0)
    return manager, path


@pytest.mark.parametrize("name", [*sorted(set(string.printable) - set("*?[\\/")), "{a,b}"])
def test_what_counts_as_literal_is_literal_for_tensorflow(name, tmp_path):
    assert is_literal(name)
    neighbour = saved_twice(tmp_path / "a")[1]
    manager, path = saved_twice(tmp_path / f"{name}-")
    manager.checkpoint.restore(path)
    assert manager.checkpoint.v == 1
    assert {file.name for file in (tmp_path / f"{name}-").iterdir()} == {
        "checkpoint", "ckpt-2.index", "ckpt-2.data-00000-of-00001"}
    assert os.path.exists(neighbour + ".index")


@pytest.mark.parametrize("program", [commands.train, commands.evaluate, commands.export, commands.inspect],
                         ids=lambda program: program.__name__)
@pytest.mark.parametrize("name", PATTERNS)
def test_a_pattern_is_refused_before_anything_is_written(name, program, tmp_path, capsys):
    _, neighbour = saved_twice(tmp_path / "a" / "checkpoints")
    before = sorted(tmp_path.rglob("*"))
    argv = [f"--workdir={tmp_path / name / 'run'}"]
    argv += {commands.inspect: ["--input=x.npy"], commands.export: ["--export_dir=x"]}.get(program, [])
    with pytest.raises(SystemExit) as stop:
        run(program, *argv)
    lines = capsys.readouterr().err.strip().split("\n")
    assert stop.value.code == 2 and len(lines) == 1
    assert f"--workdir={tmp_path / name / 'run'}: TensorFlow reads * ? [ \\ in a path" in lines[0]
    assert sorted(tmp_path.rglob("*")) == before and os.path.exists(neighbour + ".index")


def test_an_export_to_a_pattern_is_refused_before_the_run(tmp_path, capsys):
    line = refused(capsys, commands.train, f"--workdir={tmp_path}/run", f"--export_dir={tmp_path}/[ab]")
    assert "--export_dir=" in line and not os.listdir(tmp_path)
    with pytest.raises(ArgumentError, match=r"export_dir=.*\[ab\]: TensorFlow reads"):
        export(None, tmp_path / "[ab]")


def test_a_saved_model_is_not_read_by_a_pattern_and_a_file_is_literal(tmp_path):
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1)])
    model.save(tmp_path / "a.keras")
    model.save(tmp_path / "[a].keras")
    assert load_model(tmp_path / "[a].keras").count_params() == 3
    for name in "a*", "ab":
        tf.saved_model.save(tf.Module(), str(tmp_path / name))
    with pytest.raises(ArgumentError, match=r"a\*: TensorFlow reads"):
        load_model(tmp_path / "a*")
