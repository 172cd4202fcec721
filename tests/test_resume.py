"""A run that is killed or stopped, and goes on, ends as one that never was."""

import pathlib
import random
import shutil
import signal

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import killed
from benchmarks.killed import end_of
from santm_tf.keras import keras
from santm_tf.training import callbacks
from santm_tf.training.checkpoints import is_finite
from santm_tf.training.commands import train
from tests.helpers import in_keras_3_alone
from tests.programs import code_of

SMALL = ["--units=4", "--nojit_compile", "--checkpoint_minutes=0"]
SANTM = ["--memory_slots=8", "--slot_width=4", "--attention_heads=2", "--locality=2"]
RUNS = {  # how often they are killed, and their flags
    "santm": (2, [*SANTM, "--task=digits", "--batch_size=128", "--epochs=3", "--access_rate=0.25",
                  "--dropout=0.2"]),
    "hard_concrete": (1, [*SANTM, "--task=adding", "--length=12", "--steps_per_epoch=8", "--epochs=3",
                          "--mask=hard_concrete", "--access_rate=0.5", "--ema=0.9"]),
    "adaptive": (1, [*SANTM, "--task=adding", "--length=12", "--steps_per_epoch=8", "--epochs=3",
                     "--mask=adaptive", "--access_rate=0.5"]),
    "ablation": (2, [*SANTM, "--task=adding", "--length=12", "--steps_per_epoch=8", "--epochs=6",
                   "--mask=ablation", "--access_rate=0.5", "--mask_below=0.2"]),
    "stateful": (7, ["--task=chars", "--model=lstm", "--window=16", "--batch_size=4", "--dropout=0.2",
                      "--token_dropout=0.1", "--epochs=9", "--patience=1", "--optimizer=sgd",
                      "--learning_rate=10"]),
}


@pytest.fixture(scope="module")
def programs():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(pathlib.Path(__file__).parent.parent))
        yield killed.Programs()


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "text.txt"
    path.write_text("".join(random.Random(0).choices("abcdef \n", k=1600)))
    return path


def asked(name, text):
    flags = [*SMALL, *RUNS[name][1]]
    return [*flags, f"--data_dir={text}"] if name == "stateful" else flags


def names(folder):
    """Of the checkpoints, of which a run that goes on may remove any at any time."""
    return {path.name for path in (folder / "checkpoints").glob("ckpt-*.index")}


def checkpoints(folder):
    return sorted((folder / "checkpoints").glob("ckpt-*.index"), key=lambda path: path.stat().st_mtime)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_killed_ends_with_the_weights_of_one_that_was_not(name, programs, text, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    programs.run(["train", *asked(name, text), f"--workdir={whole}"])
    chance, kills = random.Random(name), 0
    while True:
        before = names(stopped)
        process = programs.start(["train", *asked(name, text), f"--workdir={stopped}", "--resume"])
        while process.exitcode is None and not names(stopped) - before:
            process.join(0.01)
        process.join(chance.uniform(0, 0.1) if kills < RUNS[name][0] else None)
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        process.kill()
        process.join()
        kills += 1
    assert kills == RUNS[name][0]
    (weights, place, epochs), (same, place_too, epochs_too) = end_of(whole), end_of(stopped)
    assert epochs == epochs_too and place == place_too
    assert weights.keys() == same.keys() and [n for n in weights if weights[n] != same[n]] == []
    if name == "stateful":
        assert place["waited"] == 1 and len(epochs) < 9


def test_what_is_killed_at_random_moments_loses_nothing_and_ends_alike(programs):
    found = killed.kill(10, 0, "lstm", programs)
    assert sum(row["kills"] for row in found.values()) == 10 and found.keys() == killed.KINDS.keys()
    assert [name for name, row in found.items() if row["unfit"] or row["equal"] != row["kills"]] == []


TINY = [*SMALL, "--task=adding", "--length=8", "--model=lstm", "--steps_per_epoch=5", "--epochs=2",
        "--checkpoint_minutes=10"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing stopped."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    assert code_of(train, *TINY, f"--workdir={folder}") == 0
    return folder


def stopping(at, number):
    """Stands in for `ProgressBar.on_train_batch_end`: a signal after a step."""
    def stop(progress, batch, logs=None):
        progress.done += 1
        if progress.done == at:
            signal.raise_signal(number)

    return stop


@pytest.mark.usefixtures("no_views")
@pytest.mark.parametrize("at, number, code", [
    (2, signal.SIGINT, 130), (4, signal.SIGINT, 130), (5, signal.SIGINT, 130), (7, signal.SIGTERM, 143)])
def test_a_run_that_is_stopped_saves_and_says_how_to_go_on(at, number, code, whole, tmp_path, capsys,
                                                           monkeypatch):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ProgressBar, "on_train_batch_end", stopping(at, number))
        patch.setattr("sys.argv", ["train.py", *TINY, f"--workdir={tmp_path}/run"])
        assert code_of(train, *TINY, f"--workdir={tmp_path}/run") == code
    assert signal.getsignal(number) is before
    last = capsys.readouterr().err.strip().split("\n")[-1]
    steps = 5 if at == 4 else at  # the fourth of five would leave one step
    assert f"{steps // 5} epochs and {steps % 5} of 5 steps" in last
    assert last.endswith(f"--workdir={tmp_path}/run --resume")
    assert checkpoints(tmp_path / "run")[-1].name == f"ckpt-{steps}.index"
    assert code_of(train, *TINY, f"--workdir={tmp_path}/run", "--resume") == 0
    assert end_of(tmp_path / "run") == end_of(whole)


@pytest.mark.usefixtures("no_views")
def test_a_stateful_santm_goes_on_within_an_epoch(text, tmp_path, monkeypatch):
    asked = [*SMALL, *SANTM, "--task=chars", "--window=16", "--batch_size=4", "--epochs=1", "--dropout=0.2",
             "--optimizer=lamb", "--checkpoint_minutes=10", f"--data_dir={text}"]
    assert code_of(train, *asked, f"--workdir={tmp_path}/whole") == 0
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ProgressBar, "on_train_batch_end", stopping(7, signal.SIGINT))
        assert code_of(train, *asked, f"--workdir={tmp_path}/run") == 130
    assert code_of(train, *asked, f"--workdir={tmp_path}/run", "--resume") == 0
    assert end_of(tmp_path / "run") == end_of(tmp_path / "whole")


@pytest.mark.usefixtures("no_views")
@pytest.mark.parametrize("damage", ["index", "data", "list", "all"])
def test_a_damaged_checkpoint_is_skipped_with_a_warning(damage, whole, tmp_path, capsys):
    folder = shutil.copytree(whole, tmp_path / "run")
    (folder / "checkpoints" / "ckpt-99_temp").mkdir()  # as a kill while saving leaves it
    (folder / "checkpoints" / "ckpt-99.data-00000-of-00001").write_bytes(b"cut off")
    pattern = {"index": "ckpt-10.index", "data": "ckpt-10.data*", "list": "checkpoint", "all": "ckpt-*.index"}
    for path in (folder / "checkpoints").glob(pattern[damage]):
        path.write_bytes(path.read_bytes()[:20])
    capsys.readouterr()
    code = code_of(train, *TINY, f"--workdir={folder}", "--resume")
    err = capsys.readouterr().err
    if damage == "all":
        assert code == 2 and "ckpt-10" in err and "damaged" in err
        return
    assert code == 0 and end_of(folder) == end_of(whole)
    assert ("warning: " in err and "ckpt-10" in err) == (damage != "list")
    assert not list((folder / "checkpoints").glob("ckpt-99*"))


def spoiling(at, part, number=None):
    """Stands in for `ProgressBar.on_train_batch_end`: NaN in a weight, or infinity in a slot."""
    def spoil(progress, batch, logs=None):
        progress.done += 1
        if progress.done == at:
            model = progress.model
            if part == "weights":
                model.layers[-1].kernel[0, 0].assign(np.nan)
            else:
                slot = next(v for v in model.optimizer.variables if v.shape.rank == 2)
                slot[0, 0].assign(np.inf)
            if number is not None:
                signal.raise_signal(number)

    return spoil


def numbers(folder):
    """All numbers of all checkpoints below a folder."""
    for index in folder.rglob("ckpt-*.index"):
        reader = tf.train.load_checkpoint(str(index).removesuffix(".index"))
        for name, dtype in reader.get_variable_to_dtype_map().items():
            if dtype.is_floating:
                yield reader.get_tensor(name)


@pytest.mark.usefixtures("no_views")
@pytest.mark.parametrize("at, part, number, minutes, good", [
    (1, "weights", None, 0, None), (7, "weights", None, 0, 6), (7, "slot", None, 0, 6),
    (7, "slot", signal.SIGTERM, 10, 5), (10, "slot", None, 10, 5), (10, "weights", None, 10, 5)])
def test_what_is_not_finite_is_not_saved_and_the_last_checkpoint_is_good(
        at, part, number, minutes, good, whole, tmp_path, capsys, monkeypatch):
    folder, more = tmp_path / "run", f"--checkpoint_minutes={minutes}"
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ProgressBar, "on_train_batch_end", spoiling(at, part, number))
        assert code_of(train, *TINY, more, f"--workdir={folder}") == 2
    last = capsys.readouterr().err.strip().split("\n")[-1]
    named = f"{folder}/checkpoints/ckpt-{good}" if good else "none"
    assert last.startswith("error: ") and f"the last good checkpoint is {named};" in last
    assert not good or checkpoints(folder)[-1].stem == f"ckpt-{good}"
    assert all(np.isfinite(value).all() for value in numbers(folder))
    assert code_of(train, *TINY, more, f"--workdir={folder}", "--resume") == 0
    assert end_of(folder) == end_of(whole)


@pytest.mark.usefixtures("no_views")
def test_a_run_that_diverged_goes_on_with_a_lower_rate(tmp_path, capsys, monkeypatch):
    asked = *TINY, "--schedule=constant", "--optimizer=sgd", f"--workdir={tmp_path}/run", \
        "--learning_rate=0.5"
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.ProgressBar, "on_train_batch_end", spoiling(7, "weights"))
        assert code_of(train, *asked, "--checkpoint_minutes=0") == 2
    before = end_of(tmp_path / "run")[0]
    assert code_of(train, *asked[:-1], "--resume") == 2
    assert "was made with --learning_rate=0.5; " in capsys.readouterr().err  # no default takes its place
    assert code_of(train, *asked, "--learning_rate=1e-9", "--resume") == 0
    after = end_of(tmp_path / "run")[0]
    for name in (name for name in after if "/_trainable_variables/" in name):
        np.testing.assert_allclose(*(np.frombuffer(held[name], "f4") for held in (after, before)), atol=1e-6)
    assert "--learning_rate=1e-09" in (tmp_path / "run" / "flags.cfg").read_text()


@in_keras_3_alone
@pytest.mark.usefixtures("no_views")
def test_half_precision_ends_though_it_leaves_steps_out(tmp_path, monkeypatch):
    """At such a scale every gradient overflows, so that the optimiser takes no step and counts none."""
    fits, fit, scaled = [], keras.Model.fit, keras.mixed_precision.LossScaleOptimizer
    init = scaled.__init__

    def counted(*args, **given):
        fits.append(fit(*args, **given))
        assert len(fits) == 1

    monkeypatch.setattr(keras.Model, "fit", counted)
    monkeypatch.setattr(scaled, "__init__", lambda self, inner, **given: init(self, inner, 1e30, **given))
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        assert code_of(train, *TINY, f"--workdir={tmp_path}/run") == 0
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert checkpoints(tmp_path / "run")[-1].name == "ckpt-0.index"


@pytest.mark.usefixtures("no_views")
def test_a_step_that_makes_every_weight_nan_leaves_no_checkpoint(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(callbacks.ProgressBar, "on_train_batch_end", spoiling(1, "weights"))
    asked = *TINY, "--checkpoint_minutes=0", f"--workdir={tmp_path}/run"
    for more in (), ("--resume",):
        assert code_of(train, *asked, *more) == 2
        line = capsys.readouterr().err.strip().split("\n")[-1]
        assert "not finite at step 1; the last good checkpoint is none; lower --learning_rate" in line
        assert not list((tmp_path / "run").rglob("ckpt-*"))


@pytest.mark.usefixtures("no_views")
def test_a_checkpoint_that_holds_nan_is_skipped_with_a_warning(whole, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:  # as earlier versions saved
        patch.setattr(callbacks.ProgressBar, "on_train_batch_end", spoiling(7, "weights"))
        patch.setattr("santm_tf.training.checkpoints.is_finite", lambda model: True)
        assert code_of(train, *TINY, "--checkpoint_minutes=0", f"--workdir={folder}") == 2
    assert not all(np.isfinite(value).all() for value in numbers(folder))
    assert code_of(train, *TINY, "--checkpoint_minutes=0", f"--workdir={folder}", "--resume") == 0
    assert "ckpt-7: holds NaN or infinity; skipped" in capsys.readouterr().err
    assert end_of(folder) == end_of(whole)


@pytest.mark.parametrize("place", range(4))
def test_finite_is_what_a_run_can_go_on_from(place):
    layer = keras.layers.LSTM(2, stateful=True)
    model = keras.Sequential([keras.Input(batch_shape=[2, 3, 1]), layer])
    model.compile("adam", "mse")
    model.optimizer.build(model.trainable_variables)
    assert is_finite(model)
    variable = [model.weights[-1], model.optimizer.variables[-1], layer.states[1], model.weights[0]][place]
    variable.assign(tf.fill(variable.shape, [np.nan, np.inf, -np.inf, np.nan][place]))
    assert not is_finite(model)
