"""train.py and evaluate.py, run as a user runs them but in this process."""

import importlib.util
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import baselines
from santm_tf.baselines import lstm
from santm_tf.keras import keras
from santm_tf.training import flags, models
from santm_tf.training.callbacks import StopWhenNotFinite
from santm_tf.training.commands import evaluate, train
from santm_tf.training.errors import UsageError
from santm_tf.training.run import load_folder, load_task
from tests.programs import last_line, refused, run

CONFIGS = pathlib.Path(__file__).parent.parent.joinpath("configs")
TINY = ["--units=4", "--nojit_compile", "--batch_size=256", "--epochs=2"]
SMALL = [*TINY, "--memory_slots=8", "--slot_width=4", "--attention_heads=2", "--locality=2",
         "--access_rate=0.25"]
LSTM = [*TINY, "--model=lstm"]
NTM = [*TINY, "--model=ntm", "--memory_slots=8", "--slot_width=4"]


pytestmark = pytest.mark.usefixtures("no_views")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A work directory of a short run, and the line it printed."""
    folder = str(tmp_path_factory.mktemp("run") / "first")
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("builtins.print", lambda *a, **k: lines.append(a[0]))
        run(train, f"--workdir={folder}", *SMALL)
    return folder, json.loads(lines[-1])


def test_the_last_line_has_the_figures(trained):
    _, line = trained
    assert {"task", "model", "seed", "epochs", "seconds", "parameters", "access_rate", "test_loss",
            "test_accuracy"} <= set(line)
    assert line["access_rate"] == 0.25 and line["epochs"] == 2


def test_the_work_directory_holds_the_run(trained):
    folder, line = trained
    assert {"flags.cfg", "metrics.json", "outline.json", "checkpoints", "best",
            "logs"} <= set(os.listdir(folder))
    with open(os.path.join(folder, "metrics.json")) as file:
        record = json.load(file)
    assert record["result"] == line and len(record["epochs"]) == 2


def test_evaluate_restores_the_best_checkpoint(trained, capsys):
    folder, line = trained
    run(evaluate, f"--workdir={folder}")
    again = last_line(capsys)
    assert again["test_loss"] == pytest.approx(line["test_loss"], rel=1e-5)
    assert again["test_accuracy"] == line["test_accuracy"]


def test_its_flag_file_reproduces_the_run(trained, tmp_path, capsys):
    folder, line = trained
    run(train, f"--flagfile={folder}/flags.cfg", f"--workdir={tmp_path}/again", "--plots")
    out, err = capsys.readouterr()
    again = json.loads(out.strip().split("\n")[-1])
    assert f"see {tmp_path}/again/report.html" in err and (tmp_path / "again" / "report.html").exists()
    assert again["test_loss"] == pytest.approx(line["test_loss"], rel=1e-4)


def test_resuming_a_finished_run_prints_its_figures_again(trained, tmp_path, capsys):
    folder, line = trained
    shutil.copytree(folder, tmp_path / "copy")
    run(train, f"--workdir={tmp_path}/copy", "--resume", *SMALL)
    again = last_line(capsys)
    assert again["test_accuracy"] == line["test_accuracy"] and again["epochs"] == 2


def test_dynamic_evaluation_is_one_more_score_and_changes_no_other(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question " * 60)
    asked = [f"--workdir={tmp_path}/run", "--task=chars", f"--data_dir={text}", "--model=lstm", "--units=8",
             "--window=16", "--batch_size=4", "--epochs=1"]
    lines = []
    for more in (["--dynamic_rate=0.01"], ["--dynamic_rate=0", "--resume"]):
        run(train, *asked, *more)
        lines.append(last_line(capsys))
    dynamic, static = lines
    assert dynamic.pop("test_dynamic_bits_per_character") < dynamic["test_bits_per_character"]
    assert dynamic == static


def test_a_flag_that_the_saved_run_did_not_know_counts_as_not_given(trained, tmp_path, capsys):
    folder = shutil.copytree(trained[0], tmp_path / "copy")
    path = folder / "flags.cfg"
    path.write_text("".join(line for line in path.read_text().splitlines(True)
                            if "retention" not in line and "causal" not in line))
    run(train, f"--workdir={folder}", "--resume", *SMALL)
    assert last_line(capsys)["epochs"] == 2
    for other in ("--retention=0.5", "--causal"):
        assert other in refused(capsys, train, f"--workdir={folder}", "--resume", *SMALL, other)


def test_resuming_goes_on_where_the_run_stopped(tmp_path, capsys):
    asked = [f"--workdir={tmp_path}/run", *LSTM]
    run(train, "--max_steps=4", *asked)
    run(train, "--resume", *asked)
    assert last_line(capsys)["epochs"] == 2


@pytest.mark.parametrize("argv, names", [
    (["--task=nonsense"], "--task"),
    (["--model=nonsense"], "--model"),
    (["--units=many"], "--units"),
    (["--units=0"], "--units"),
    (["--no_such_flag=1"], "no_such_flag"),
    (["--access_rate=0"], "--access_rate"),
    (["--access_rate=1.5"], "--access_rate"),
    (["--access_rate=often"], "--access_rate"),
    (["--retention=1"], "--retention"),
    (["--dynamic_rate=0.1"], "--dynamic_rate"),
    (["--access_rate=0.5", "--mask_warmup=9", "--epochs=5"], "--mask_warmup=9"),
    (["--mask_below=0.5"], "--mask_below=0.5: the access rate does not fall"),
    (["--mask=uniform", "--access_rate=0.5", "--mask_below=0.5"], "--mask_below=0.5"),
    (["--access_rate=0.5", "--initial_access_rate=0.2"], "--access_rate"),
    (["--locality=0"], "--locality"),
    (["--attention_heads=5"], "--attention_heads"),
    (["--shift_range=9", "--memory_slots=8"], "--shift_range"),
    (["--batch_size=100000"], "--batch_size"),
    (["--max_length=5"], "--max_length"),
    (["--flagfile=no/such/file.cfg"], "no/such/file.cfg"),
    (["stray"], "stray"),
    (["--profile_steps=80000,80001"], "--profile_steps"),
    (["--patience=0"], "--patience"),
    (["--checkpoint_minutes=-1"], "--checkpoint_minutes"),
    (["--data_dir=mine.npz"], "--data_dir=mine.npz: --task=digits reads no data"),
    (["--model=lstm", "--top_k=4"], "--top_k=4: --model=lstm does not use it"),
    (["--model=lstm", "--access_rate=0.5"], "--access_rate=0.5: --model=lstm does not use it"),
    (["--model=ntm", "--causal"], "--causal: --model=ntm does not use it"),
    (["--search=lsh"], "--search=lsh: needs --memory=sparse"),
    (["--mask=uniform", "--mask_surrogate=double_tanh"], "double_tanh: needs --mask=learned"),
    (["--embedding=8"], "--embedding=8: --task=digits has no tokens"),
    (["--token_dropout=0.5"], "--token_dropout=0.5: --task=digits has no tokens"),
    (["--controller_order=8"], "--controller_order=8: needs --controller=lmu"),
    (["--task=copy", "--mask_period=1", "--pooling=mean"], "--task=copy has an output at every"),
    (["--tflite"], "--tflite: needs --export_dir"),
    (["--export_xla"], "--export_xla: needs --export_dir"),
])
def test_a_mistake_gets_one_line_that_names_the_flag(argv, names, tmp_path, capsys):
    assert names in refused(capsys, train, f"--workdir={tmp_path}/run", *argv)
    assert not os.path.exists(tmp_path / "run")


def test_a_flag_of_its_default_counts_as_not_given(tmp_path, capsys):
    run(train, *LSTM, "--dry_run", "--slot_width=32", "--access_rate=1.0", "--pooling=last", "--noaugment")
    assert "weights: " in capsys.readouterr().out


@pytest.mark.parametrize("flag", ["--dry_run", "--resume", "--profile_steps=1,2"])
def test_what_is_of_training_alone_is_refused_by_evaluate(flag, trained, capsys):
    line = refused(capsys, evaluate, flag, f"--workdir={trained[0]}")
    assert f"{flag.split('=')[0]}: santm-evaluate has no use for it" in line


def test_evaluate_exports_the_best_weights(trained, tmp_path, capsys):
    run(evaluate, f"--workdir={trained[0]}", f"--export_dir={tmp_path}/export")
    saved = tf.saved_model.load(f"{tmp_path}/export")
    (x, y), = load_folder(trained[0]).task.test.unbatch().batch(360)
    served = saved.signatures["serving_default"](inputs=x, lengths=tf.fill([360], 64))["class"]
    line = last_line(capsys)
    assert np.mean(served.numpy().astype(int) == y) == pytest.approx(line["test_accuracy"])


@pytest.mark.skipif(importlib.util.find_spec("tf_keras") is None, reason="there is no Keras 2")
def test_evaluate_reads_a_run_of_the_other_keras(tmp_path, capsys):
    environment = {**os.environ, "TF_USE_LEGACY_KERAS": "1"}
    if "TF_USE_LEGACY_KERAS" in os.environ:
        del environment["TF_USE_LEGACY_KERAS"]
    made = subprocess.run([sys.executable, "train.py", *SMALL, "--epochs=1", f"--workdir={tmp_path}/run"],
                          cwd=CONFIGS.parent, env=environment, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    theirs = json.loads(made.stdout.strip().split("\n")[-1])
    run(evaluate, f"--workdir={tmp_path}/run")
    assert last_line(capsys) == pytest.approx(theirs)


def test_a_model_without_a_formula_has_a_dry_run(capsys, monkeypatch):
    monkeypatch.setattr(lstm, "MODEL", baselines.model.Model(lstm.make))
    run(train, *LSTM, "--dry_run")
    assert "forward pass: no formula for --model=lstm" in capsys.readouterr().out


def test_a_missing_workdir_is_named(tmp_path, capsys):
    assert "--workdir" in refused(capsys, train)
    assert "--workdir" in refused(capsys, evaluate, f"--workdir={tmp_path}/none")


def test_a_filled_work_directory_is_refused_and_left_alone(trained, capsys):
    folder, _ = trained
    def held():
        return {name: os.path.getmtime(os.path.join(folder, name)) for name in os.listdir(folder)
                if name != "training.lock"}  # which a training holds before it knows

    before = held()
    assert "--resume" in refused(capsys, train, f"--workdir={folder}", *SMALL)
    assert "--units" in refused(capsys, train, f"--workdir={folder}", "--resume", *SMALL,
                                "--units=5")
    assert "--model" in refused(capsys, train, f"--workdir={folder}", "--resume", *LSTM)
    assert before == held()


def test_a_damaged_or_missing_checkpoint_is_named(trained, tmp_path, capsys):
    folder, _ = trained
    shutil.copytree(folder, tmp_path / "copy")
    for name in os.listdir(tmp_path / "copy" / "best"):
        if ".data" in name or ".index" in name:
            (tmp_path / "copy" / "best" / name).write_bytes(b"damaged")
    assert "best" in refused(capsys, evaluate, f"--workdir={tmp_path}/copy")
    shutil.rmtree(tmp_path / "copy" / "best")
    assert "best" in refused(capsys, evaluate, f"--workdir={tmp_path}/copy")


def helped(capsys, flag):
    with pytest.raises(SystemExit) as stop:
        run(train, flag)
    assert stop.value.code == 0
    return capsys.readouterr().out


def test_help_is_short_and_helpfull_lists_all_flags_by_group(capsys):
    short, text = helped(capsys, "--help"), helped(capsys, "--helpfull")
    assert short.count("\n") < 40 and "--helpfull" in short and "--workdir" in short
    places = [text.index(f"\n{group}:\n") for group in ("model", "optimiser", "task", "run")]
    assert places == sorted(places) and "--access_rate" in text


def test_a_loss_that_is_not_finite_stops_the_run():
    stop = StopWhenNotFinite(lambda: "ckpt-7")
    with pytest.raises(UsageError, match="nan.*ckpt-7.*learning_rate"):
        stop.on_train_batch_end(3, {"loss": float("nan")})
    with pytest.raises(UsageError, match="validation loss is inf.*ckpt-7"):
        stop.on_epoch_end(1, {"loss": 1.0, "val_loss": float("inf")})


def test_weights_that_are_not_finite_are_never_saved(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    spoil = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: None)
    fit = keras.Model.fit

    def spoiled_fit(model, *args, callbacks, **kwargs):
        def at_the_end_of_the_second_epoch(batch, logs):
            if int(model.optimizer.iterations) == 2 * batches:
                model.layers[-1].kernel.assign(np.full(model.layers[-1].kernel.shape, np.nan))
        batches = args[0].cardinality().numpy()
        spoil.on_train_batch_end = at_the_end_of_the_second_epoch
        return fit(model, *args, callbacks=[spoil, *callbacks], **kwargs)

    monkeypatch.setattr(keras.Model, "fit", spoiled_fit)
    line = refused(capsys, train, f"--workdir={folder}", *SMALL)
    last = tf.train.latest_checkpoint(str(folder / "checkpoints"))
    assert "validation loss is nan" in line and last in line
    with open(folder / "metrics.json") as file:
        assert [epoch["epoch"] for epoch in json.load(file)["epochs"]] == [1]


def test_a_run_that_was_cut_off_keeps_the_figures_of_its_epochs(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(keras.Model, "evaluate", cut_off_in_the_second_epoch())
        with pytest.raises(KeyboardInterrupt):
            run(train, f"--workdir={folder}", *LSTM)
    run(train, f"--workdir={folder}", "--resume", *LSTM)
    with open(folder / "metrics.json") as file:
        record = json.load(file)
    assert [epoch["epoch"] for epoch in record["epochs"]] == [1, 2]
    assert record["best"] == {"val_loss": min(epoch["val_loss"] for epoch in record["epochs"])}
    assert record["result"]["seconds"] == pytest.approx(
        sum(epoch["seconds"] for epoch in record["epochs"]), abs=0.05)


def cut_off_in_the_second_epoch():
    """Stands in for `Model.evaluate`, which runs at the end of each epoch."""
    real, calls = keras.Model.evaluate, []

    def evaluate_once(*args, **kwargs):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    return evaluate_once


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.cfg")), ids=lambda path: path.stem)
def test_a_committed_flag_file_is_one_that_train_takes(path):
    config = flags.parse(["train.py", "--workdir=unused", f"--flagfile={path}"])
    memory = config.layer.get("memory", "dense")
    names = [config.task] + [config.model] * (config.model != "santm") + [memory] * (memory != "dense")
    assert path.stem in ("-".join(names), config.task)  # what a task needs goes without saying


@pytest.mark.parametrize("asked", [SMALL, [*SMALL, "--memory=sparse"], NTM, LSTM],
                         ids=["santm", "sparse", "ntm", "lstm"])
def test_a_dry_run_says_what_would_be_trained_and_touches_nothing(asked, tmp_path, capsys):
    run(train, *asked, "--dry_run", f"--workdir={tmp_path}/run")
    lines = dict(line.split(": ", 1) for line in capsys.readouterr().out.split("\n") if ": " in line)
    config = flags.parse(["program", *asked, "--dry_run"])
    model = models.compiled(config, load_task(config))
    assert int(lines["weights"].replace(",", "")) == sum(np.size(w) for w in model.trainable_weights)
    assert any(name.startswith("FLOPs") for name in lines)
    assert not os.path.exists(tmp_path / "run")


def test_what_no_one_looks_at_gets_a_line_an_epoch(tmp_path, capsys):
    run(train, f"--workdir={tmp_path}/run", *LSTM)
    lines = [line for line in capsys.readouterr().err.split("\n") if line.startswith("epoch ")]
    assert [line.split(" [")[0] for line in lines] == ["epoch 1/2", "epoch 2/2"]
    assert all("left] " in line and "loss=" in line and "\r" not in line for line in lines)
