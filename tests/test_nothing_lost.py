"""What a user has stays, and what a run has made is told and kept, whatever is in the way."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import types
import zipfile

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, load_model
from santm_tf.errors import ArgumentError
from santm_tf.export import export
from santm_tf.keras import keras
from santm_tf.paths import _exchanged, replace, write_whole
from santm_tf.tasks import corpus
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.writing import check
from santm_tf.training import commands, mask_history, page, sweep
from santm_tf.training.checkpoints import Kept
from santm_tf.training.commands import evaluate, train
from santm_tf.training.errors import UsageError
from santm_tf.training.layer_figures import figure
from santm_tf.training.workdir import Workdir
from tests.programs import code_of, last_line, refused

TINY = ["--units=4", "--nojit_compile", "--task=adding", "--length=8", "--model=lstm", "--steps_per_epoch=5",
        "--epochs=2"]
HOLDS = """
import sys, time
from santm_tf.training.lock import lock
held = lock(sys.argv[1], holder=True)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that ended."""
    folder = tmp_path_factory.mktemp("run") / "whole"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("santm_tf.training.board.Board._views", lambda board: ())
        assert code_of(train, *TINY, f"--workdir={folder}") == 0
    return folder


@pytest.fixture
def run(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def held_by(folder):
    """All files below a folder, with what they hold."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


IN_THE_WAY = {  # what is there, the flags, and what the line names
    "what is no export": ("x/notes", "--export_dir=x", "x: holds something else than an export (notes)"),
    "a file above the export": ("x", "--export_dir=x/y/z", "x/y/z: TMP/x is no folder"),
    "the run is the export": ("a", "--export_dir=run", "--export_dir=run: --workdir=run is there"),
    "the run is in the export": ("a", "--export_dir=.", "--export_dir=.: "),
    "the export is of the run": ("a", "--export_dir=run/best", "run/best: --workdir=run is there"),
    "a page of the user's": ("run/report.html", "--plots", "run/report.html: is no file that this"),
    "a file for the figures": ("run/plots", "--plots", "run/plots: is a file"),
    "checkpoints": ("run/checkpoints", "--resume", "run/checkpoints: is a file; name a folder"),
    "best": ("run/best", "--resume", "run/best: is a file; name a folder"),
    "logs": ("run/logs", "--resume", "run/logs: is a file; name a folder"),
    "a folder for figures": ("run/metrics.json/x", "--resume", "run/metrics.json: is a folder; name a file"),
    "figures of the user's": ("run/metrics.json", "--resume", "run: holds metrics.json and no flags.cfg"),
    "checkpoints of the user's": ("run/checkpoints/ckpt-1.index", "--resume", "run: holds checkpoints and"),
}


@pytest.mark.parametrize("case", IN_THE_WAY)
def test_what_is_in_the_way_is_told_before_the_training_and_stays(case, tmp_path, capsys, monkeypatch):
    there, flag, said = IN_THE_WAY[case]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("santm_tf.training.fit.load_task", None)  # so it is before the data are read
    (tmp_path / there).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / there).write_text("mine")
    assert said.replace("TMP", str(tmp_path)) in refused(capsys, train, *TINY, "--workdir=run", flag)
    assert held_by(tmp_path) == {tmp_path / there: b"mine"}


def test_what_cannot_be_exported_is_told_before_the_training(tmp_path, capsys):
    line = refused(capsys, train, "--task=adding", "--length=8", "--units=4", "--memory=sparse",
                   "--nojit_compile", f"--workdir={tmp_path}/run", f"--export_dir={tmp_path}/x", "--tflite")
    assert "TensorFlow Lite has no operations" in line and not os.listdir(tmp_path)


def test_figures_shards_and_sweeps_take_no_place_of_a_user_s(tmp_path):
    for name in "view.png", "shards.json", "a.study.runs/best.cfg", "notes.new":
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text('{"format": 1}')
    before = held_by(tmp_path)
    with pytest.raises(UsageError, match=r"view\.png: is no file that this program wrote"):
        page.save(str(tmp_path), [page.View("view", figure("a"), "b")])
    with pytest.raises(TaskError, match=r"holds something else than shards \(a.study.runs\)"):
        check(tmp_path)
    (tmp_path / "train.index").mkdir()
    with pytest.raises(TaskError, match="holds something else"):
        check(tmp_path)
    study = str(tmp_path / "a.study")
    asked = types.SimpleNamespace(study=study, folder=f"{study}.runs", given=[])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sweep.goal, "found_apart", lambda argv: None)
        with pytest.raises(UsageError, match=r"a\.study\.runs holds best\.cfg, and there is no study"):
            sweep.sweep(asked)
    write_whole(tmp_path / "notes", "ours")
    assert {**before, tmp_path / "notes": b"ours"} == {
        path: held for path, held in held_by(tmp_path).items() if path.name != "lock"}
    page.save(str(tmp_path / "ours"), [page.View("view", figure("a"), "b")])
    page.save(str(tmp_path / "ours"), [page.View("view", figure("c"), "d")])  # its own it replaces


def test_what_cannot_be_written_leaves_what_was_there(tmp_path):
    write_whole(tmp_path / "a", "before")
    with pytest.raises(UnicodeEncodeError):
        write_whole(tmp_path / "a", "\udce9")
    assert held_by(tmp_path) == {tmp_path / "a": b"before"}


def test_a_folder_that_is_replaced_is_there_at_any_time(tmp_path, monkeypatch):
    """So a kill leaves the old one or the new one."""
    place = tmp_path / "place"
    for name in "place", "new":
        (tmp_path / name).mkdir()
        (tmp_path / name / "held").write_text(name)
    if not _exchanged(tmp_path / "place", tmp_path / "new"):
        pytest.skip("this system cannot exchange two folders")
    assert _exchanged(tmp_path / "place", tmp_path / "new")

    monkeypatch.setattr(os, "rename", None)  # of two renames one comes first
    replace(place, tmp_path / "new", tmp_path / "old")
    assert {path.name: (path / "held").read_text() for path in tmp_path.iterdir()} == {
        "place": "new", "new": "place"}


def test_a_weight_that_is_not_finite_is_not_exported(tmp_path):
    model = keras.Sequential([keras.Input([8, 1]), keras.layers.LSTM(2), keras.layers.Dense(1)])
    model.layers[-1].kernel[0, 0].assign(np.nan)
    with pytest.raises(ArgumentError, match="kernel.* holds NaN or infinity"):
        export(model, tmp_path / "x")
    assert not os.listdir(tmp_path)


def test_figures_are_told_and_kept_where_what_comes_after_fails(run, tmp_path, capsys, monkeypatch):
    before = json.loads((run / "metrics.json").read_text())["result"]
    def fail(*given):
        raise ArgumentError("full")

    monkeypatch.setattr("santm_tf.training.report.write", fail)
    monkeypatch.setattr("santm_tf.export.export", fail)
    for flag in "--plots", f"--export_dir={tmp_path}/x":
        assert code_of(train, *TINY, f"--workdir={run}", "--resume", flag) == 2
        assert last_line(capsys) == json.loads((run / "metrics.json").read_text())["result"] == before


@pytest.mark.usefixtures("no_views")
def test_a_folder_has_one_trainer_at_a_time_also_after_one_was_killed(run, capsys):
    before = held_by(run)
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, run / "training.lock"], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"held\n"
    line = refused(capsys, train, *TINY, f"--workdir={run}", "--resume")
    assert f"--workdir={run}: process {holder.pid} on " in line
    assert {**held_by(run), run / "training.lock": b""} == {**before, run / "training.lock": b""}
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert code_of(train, *TINY, f"--workdir={run}", "--resume") == 0


@pytest.mark.usefixtures("no_views")
@pytest.mark.parametrize("held", [b"", b"\xff\x00\x81random"], ids=["empty", "random"])
def test_a_list_of_checkpoints_that_is_damaged_is_not_needed(held, run, capsys):
    for name in "checkpoints", "best":
        (run / name / "checkpoint").write_bytes(held)
    last = sorted((run / "checkpoints").glob("ckpt-10.*"))
    last[0].write_bytes(last[0].read_bytes()[:-9])
    assert code_of(train, *TINY, f"--workdir={run}", "--resume") == 0
    assert "ckpt-10: damaged" in capsys.readouterr().err
    assert code_of(evaluate, f"--workdir={run}") == 0


@pytest.mark.usefixtures("no_views")
def test_best_weights_that_are_damaged_are_said_and_found_anew(run, capsys):
    for path in (run / "best").glob("ckpt-*"):
        path.write_bytes(b"")
    for path in (run / "checkpoints").glob("ckpt-10.*"):
        path.unlink()
    assert code_of(train, *TINY, f"--workdir={run}", "--resume") == 0
    assert "damaged" in (err := capsys.readouterr().err) and "the best of the epochs to come" in err
    assert code_of(evaluate, f"--workdir={run}") == 0


def test_a_list_of_checkpoints_deletes_nothing_elsewhere(tmp_path):
    (tmp_path / "run").mkdir()
    for name in "mine.index", "mine.data-00000-of-00001":
        (tmp_path / name).write_text("mine")
    (tmp_path / "run" / "checkpoint").write_text(
        'model_checkpoint_path: "../mine"\nall_model_checkpoint_paths: "../mine"\n')
    kept = Kept(tf.train.Checkpoint(v=tf.Variable(1.0)), str(tmp_path / "run"), most=2)
    paths = [kept.save(number) for number in (1, 2, 3)]
    assert kept.saved() == paths[:0:-1] and (tmp_path / "mine.index").read_text() == "mine"


@pytest.mark.usefixtures("no_views")
def test_a_full_disk_is_one_line_and_what_was_saved_stays(run, capsys, monkeypatch):
    before = held_by(run / "checkpoints")
    with monkeypatch.context() as patch:
        def full(checkpoint, path):
            os.makedirs(f"{path}_temp")
            raise tf.errors.ResourceExhaustedError(None, None, f"{path}; No space left on device")

        patch.setattr(tf.train.Checkpoint, "write", full)
        line = refused(capsys, train, *TINY, f"--workdir={run}", "--resume", "--epochs=3")
    assert line == f"error: --workdir={run}: No space left on device; make room, and go on with --resume"
    assert held_by(run / "checkpoints") == before and not list(run.rglob("*_temp"))


WRONG = {"metrics.json": ["[]", "null", '{"epochs": 3}', '{"epochs": [{"epoch": "1"}]}', "[" * 10**5],
         "outline.json": ["[]", '{"outputs": "a", "categories": []}', "{}"],
         "data.json": ["[]", '{"channels": {}}']}


@pytest.mark.parametrize("name", WRONG)
def test_json_of_the_wrong_form_is_told_as_damaged(name, run):
    workdir = Workdir(str(run))
    read = {"metrics.json": workdir.read_metrics, "outline.json": workdir.read_outline,
            "data.json": workdir.read_kept}[name]
    for text in WRONG[name]:
        (run / name).write_text(text)
        with pytest.raises(UsageError, match=rf"{name}: damaged \(.*\); [a-z ]+$"):
            read()


@pytest.mark.parametrize("masks", [np.ones(3, bool), np.ones([2, 3]), np.ones([1, 2, 3], bool),
                                   np.array([None, 3])], ids=["rank 1", "floats", "rank 3", "objects"])
def test_masks_of_another_form_are_told(masks, tmp_path):
    np.save(tmp_path / "masks.npy", masks)
    with pytest.raises(UsageError, match=r"masks\.npy: .*; delete it$"):
        mask_history.read(tmp_path)


@pytest.mark.parametrize("program", [commands.train, commands.evaluate, commands.export, commands.inspect,
                                     commands.shard, commands.sweep], ids=lambda program: program.__name__)
@pytest.mark.parametrize("path", ["a\0b", "caf\udce9", "x" * 300, "x/" * 2500, "x" * 300 + "/y"],
                         ids=["nul", "latin-1", "long", "deep", "below"])
def test_a_path_that_cannot_be_is_one_line(path, program, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flags = {commands.train: ["--workdir=P", "--task=adding"], commands.evaluate: ["--workdir=P"],
             commands.export: ["--workdir=P", "--export_dir=P"],
             commands.inspect: ["--workdir=P", "--input=P"], commands.shard: ["--task=adding", "--out=P"],
             commands.sweep: ["--study=P", "--search=units=int(1,9)", "--trials=2", "--task=adding"]}
    argv = [flag.replace("=P", f"={path}") for flag in flags[program]]
    assert refused(capsys, program, *argv).startswith("error: --")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("path", ["a\0b", "caf\udce9", "x" * 300, "x/" * 2500])
@pytest.mark.parametrize("flag", ["--flagfile", "--export_dir", "--task=mnist --data_dir",
                                  *(f"--task={name} --data_dir" for name in
                                    ("text", "words", "sequences", "shards", "sounds"))])
def test_so_is_that_of_any_other_flag(path, flag, tmp_path, capsys):
    line = refused(capsys, train, *f"{flag}={path}".split(" "), f"--workdir={tmp_path}/run")
    assert flag.split(" ")[-1] in line and not os.listdir(tmp_path)


def test_a_damaged_cache_of_words_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("SANTM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "text").write_text("to be or not to be\n" * 40)
    text = corpus.parts(str(tmp_path / "text"), at_words=True)
    paths, counts = corpus.numbered_words(text)
    good = [pathlib.Path(path).read_bytes() for path in paths]
    place = pathlib.Path(paths[0])
    for name, damage in [("train", good[0][:-2]), ("train", good[0][:-4]), ("train", b"\xff" * len(good[0])),
                         ("counts.npy", b""), ("counts.npy", b"junk"), ("valid", b"")]:
        place.with_name(name).write_bytes(damage)
        again, counted = corpus.numbered_words(text)
        assert again == paths and [pathlib.Path(path).read_bytes() for path in paths] == good
        np.testing.assert_array_equal(counted, counts)


ODD = [("config.json", text) for text in ("[]", "null", "3", "{}", "[" * 10**5)] + [
    ("config.json", lambda config: config["config"].update(layers=None)),
    ("config.json", lambda config: config["config"].update(layers=[1, 2])),
    ("config.json", lambda config: config["config"]["layers"][-1].update(config=[])),
    ("config.json", lambda config: config["config"]["layers"][-1]["config"].update(units=10**12)),
    ("config.json", lambda config: config.update(compile_config=[1])),
    ("metadata.json", "[]"), ("metadata.json", '{"keras_version": 3}'), ("model.weights.h5", "junk")]


def test_a_keras_file_with_an_odd_configuration_is_told_as_damaged(tmp_path):
    keras.Sequential([keras.Input([6, 2]), SANTM(4, slot_width=4)]).save(tmp_path / "good.keras")
    with zipfile.ZipFile(tmp_path / "good.keras") as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    for name, change in ODD:
        text = change
        if callable(change):
            change(held := json.loads(files[name]))
            text = json.dumps(held)
        with zipfile.ZipFile(tmp_path / "odd.keras", "w") as archive:
            for other, content in {**files, name: text}.items():
                archive.writestr(other, content)
        if name == "metadata.json":  # not needed
            assert load_model(tmp_path / "odd.keras").count_params()
            continue
        with pytest.raises(ValueError, match=r"odd\.keras: not a saved Keras model, or a damaged one \("):
            load_model(tmp_path / "odd.keras")
