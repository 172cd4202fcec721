"""`santm-sweep`: nothing is lost or run twice whatever is killed, and what it says is so."""

import contextlib
import json
import math
import os
import pathlib
import random
import re
import signal
import statistics
import subprocess
import sys
import time

import pytest

from santm_tf.training import commands, flags, goal, studies, sweep_flags
from tests import made_sweep
from tests.programs import last_line, refused, run

ROOT = pathlib.Path(__file__).parent.parent
RATE, UNITS = "--search=learning_rate=log(1e-4,1e-1)", "--search=units=int(4,200)"
ADDING = ["--task=adding", "--model=lstm", "--seeds=0"]


@pytest.fixture
def quick(monkeypatch):
    """Trainings of sweeps take no time."""
    made_sweep.patch(monkeypatch.setattr)


def trials_of(path):
    asked = sweep_flags.parse(["santm-sweep", f"--study={path}", RATE, UNITS, *ADDING])
    return studies.existing(asked).trials


def begin(path, trials):
    """A sweep in a process of its own."""
    command = [sys.executable, "-m", "tests.made_sweep", f"--study={path}", f"--trials={trials}"]
    return subprocess.Popen([*command, RATE, UNITS, *ADDING], cwd=ROOT, stdout=subprocess.PIPE,
                            stderr=subprocess.PIPE, text=True)


def wait_for(count, folder):
    """Until so many trainings have begun."""
    end = time.monotonic() + 60
    while len(list(folder.glob("trial-*/begun"))) < count and time.monotonic() < end:
        time.sleep(0.01)


def test_forty_trials_with_three_kills_are_forty_and_none_is_run_twice(tmp_path):
    path, folder, chance = tmp_path / "a.study", tmp_path / "a.study.runs", random.Random(0)
    sweeps = [begin(path, 40), begin(path, 40)]
    for kill, begun in enumerate((4, 9, 14)):
        wait_for(begun, folder)
        time.sleep(chance.uniform(0, 0.1))
        children = pathlib.Path(f"/proc/{sweeps[kill].pid}/task/{sweeps[kill].pid}/children").read_text()
        sweeps[kill].kill()
        for child in children.split() * (kill == 1):  # the training, too, as where a machine goes down
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
        sweeps[kill].communicate()
        sweeps.append(begin(path, 40))
    said = [process.communicate(timeout=60) for process in sweeps[3:]]
    assert [process.returncode for process in sweeps] == [-signal.SIGKILL] * 3 + [0, 0], said
    trials = trials_of(path)
    assert [trial.number for trial in trials] == list(range(40))
    assert all(trial.state.is_finished() for trial in trials)
    assert len({tuple(trial.params.items()) for trial in trials}) == 40
    folders = [folder / f"trial-{n}" for n in range(40)]
    assert set(folder.glob("trial-*")) == set(folders)
    assert not any(made_sweep.count("not_alone", own) for own in folders)
    assert max(made_sweep.count("done", own) for own in folders) == 1
    for trial, own in zip(trials, folders, strict=True):
        assert trial.state.name != "COMPLETE" or made_sweep.count("done", own)
    told = [json.loads(out.splitlines()[-1]) for out, _ in said]
    assert told[0] == told[1] and told[0]["trials"] == 40
    assert sum(told[0][state] for state in ("complete", "pruned", "failed")) == 40
    assert told[0]["best"]["val_loss"] == min(t.value for t in trials if t.state.name == "COMPLETE")


def test_it_stops_when_asked_to_and_goes_on(tmp_path):
    path = tmp_path / "a.study"
    process = begin(path, 4000)
    wait_for(3, tmp_path / "a.study.runs")
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert re.match(r"stopped after \d+ of 4000 trials; go on with: ", said.splitlines()[-1]), said
    assert "Traceback" not in said
    begun = len(trials_of(path))
    assert begin(path, begun + 1).wait(60) == 0
    assert [trial.state.is_finished() for trial in trials_of(path)] == [True] * (begun + 1)


def test_trials_are_counted_over_all_sweeps_and_named_where_they_failed(quick, tmp_path, capsys):
    given = [f"--study={tmp_path}/a.study", RATE, "--search=units=choice(12,13)", *ADDING]
    run(commands.sweep, "--trials=9", *given)
    first = last_line(capsys)
    run(commands.sweep, "--trials=25", *given)
    assert first["trials"] == 9
    out, err = capsys.readouterr()
    figures = json.loads(out.splitlines()[-1])
    page = (tmp_path / "a.study.runs" / "report.html").read_text()
    asked = sweep_flags.parse(["santm-sweep", *given])
    trials = studies.existing(asked).trials
    failed = [trial for trial in trials if trial.state.name == "FAIL"]
    assert len(trials) == figures["trials"] == 25 and figures["failed"] == len(failed) > 0
    assert all(trial.params["learning_rate"] > 0.05 for trial in failed)
    for trial in failed:
        assert f"<tr><td>{trial.number}</td><td>fail</td><td></td>" in page
        assert trial.number < 9 or f"trial {trial.number}: fail the loss is nan at epoch 1, step 3" in err
    assert page.count("the loss is nan at epoch 1, step 3") == len(failed)
    for trial in trials:  # with 13 units trainings are killed at first, and started once more
        begun = made_sweep.count("begun", tmp_path / "a.study.runs" / f"trial-{trial.number}")
        assert begun == 1 + (trial.params["units"] == 13 and trial not in failed)
    assert figures["pruned"] == [trial.state.name for trial in trials].count("PRUNED") > 0
    assert list(figures["importance"]) == ["learning_rate", "units"]
    assert sum(figures["importance"].values()) == pytest.approx(1)
    best = [f"--{name}={figures['best'][name]}" for name in ("learning_rate", "units")]
    lines = (tmp_path / "a.study.runs" / "best.cfg").read_text().split()
    assert lines == ["--model=lstm", "--task=adding", *best]
    assert (tmp_path / "a.study.runs" / "plots" / "parallel_coordinates.png").exists()


def test_a_trial_is_given_up_where_it_is_worse_than_the_median_of_the_complete_ones(quick, tmp_path):
    run(commands.sweep, f"--study={tmp_path}/a", "--trials=25", RATE, UNITS, *ADDING)
    complete, ends = [], set()
    for trial in trials_of(tmp_path / "a"):
        values, best, end = trial.intermediate_values, math.inf, None
        for epoch in sorted(values):
            best = min(best, values[epoch])
            if len(complete) >= 5 and best > statistics.median(other[epoch] for other in complete):
                end = epoch
                break
        assert (trial.state.name == "PRUNED") == (end is not None)
        assert end is None or max(values) == end
        ends.add(end)
        if trial.state.name == "COMPLETE":
            complete.append(values)
    assert len(ends) > 1


def test_the_same_sweep_tries_the_same(quick, tmp_path):
    for name in "ab":
        run(commands.sweep, f"--study={tmp_path}/{name}", "--trials=12", RATE, UNITS, *ADDING)
    assert [(t.params, t.state) for t in trials_of(tmp_path / "a")] == [
        (t.params, t.state) for t in trials_of(tmp_path / "b")]


def test_a_small_space_is_tried_whole(quick, tmp_path, capsys):
    given = ["--search=units=int(4,6)", "--search=optimizer=choice(adam,sgd)", "--learning_rate=0.01",
             *ADDING]
    run(commands.sweep, f"--study={tmp_path}/a", "--trials=6", *given)
    assert last_line(capsys)["trials"] == 6
    trials = studies.existing(sweep_flags.parse(
        ["santm-sweep", f"--study={tmp_path}/a", "--trials=6", *given])).trials
    assert {(t.params["units"], t.params["optimizer"]) for t in trials} == {
        (units, optimizer) for units in (4, 5, 6) for optimizer in ("adam", "sgd")}
    assert "--trials=7: the search space has 6 points" in refused(
        capsys, commands.sweep, f"--study={tmp_path}/a", "--trials=7", *given)


def test_a_study_takes_neither_other_flags_nor_another_space(quick, tmp_path, capsys):
    study, made = f"--study={tmp_path}/a", "the study in --study=.* was made with"
    run(commands.sweep, study, "--trials=1", RATE, *ADDING)
    for given, said in (
            ([RATE, *ADDING, "--length=30"], f"--length=30: {made} no --length"),
            ([RATE, *ADDING, "--model=lnlstm"], f"--model=lnlstm: {made} --model=lstm"),
            ([RATE, UNITS, *ADDING], rf"--search=units=int\(4,200\): {made} no --search=units"),
            ([UNITS, *ADDING], rf"--search=units=int\(4,200\): {made} no --search=units"),
            (["--search=learning_rate=log(1e-4,1)", *ADDING],
             rf"learning_rate=log\(0.0001,1.0\): {made} --search=learning_rate=log\(0.0001,0.1\)")):
        assert re.search(said, refused(capsys, commands.sweep, study, *given))
    (tmp_path / "a").unlink()
    line = refused(capsys, commands.sweep, study, RATE, *ADDING)
    assert "a.runs holds best.cfg, and there is no study" in line


def test_a_seed_that_failed_is_named_and_not_trained_again(quick, tmp_path, capsys):
    for _ in range(2):  # with a flag file, made trainings fail
        run(commands.sweep, f"--study={tmp_path}/a", "--trials=2", RATE, *ADDING, "--seeds=1", "--seed=4")
        figures = last_line(capsys)
        assert figures["seeds"] == {"n": 0, "failed": 1}
    own = tmp_path / "a.runs" / f"trial-{figures['best']['trial']}-seed-5"
    assert made_sweep.count("begun", own) == 1
    page = (tmp_path / "a.runs" / "report.html").read_text()
    assert "seed 5 failed: KeyError: &#x27;learning_rate&#x27;" in page


def test_where_every_trial_failed_it_says_so(quick, tmp_path, capsys):
    line = refused(capsys, commands.sweep, f"--study={tmp_path}/a", "--trials=2", *ADDING,
                   "--search=learning_rate=log(0.06,0.09)")
    assert "no trial was complete" in line and (tmp_path / "a.runs" / "report.html").exists()


@pytest.mark.parametrize("given, said", [
    (["--study=FOLDER/a"], "--search: give a flag to search"),
    (["--study=FOLDER/a", RATE, "--trials=0"], "--trials: 0 must be a whole number of at least 1"),
    (["--study=FOLDER/a", RATE, "--seeds=x"], "--seeds: x must be a whole number of at least 0"),
    ([RATE], "--study"),
    (["--study=FOLDER", RATE], "is a folder; name a file"),
    (["--study=FOLDER/file/a", RATE], "FOLDER/file is no folder"),
    (["--study=FOLDER/file", RATE], "--study=FOLDER/file: holds something else; name another file"),
    (["--study=FOLDER/a*", RATE], "TensorFlow reads"),
    (["--study=FOLDER/a,b", RATE], "has a comma"),
    (["--study=FOLDER/a", RATE, "--workdir=runs"], "--workdir: is for one training"),
    (["--study=FOLDER/a", RATE, "--plots"], "--plots: is for one training"),
    (["--study=FOLDER/a", RATE, "--learning_rate=0.1"], "--learning_rate: --search has it, too"),
    (["--study=FOLDER/a", RATE, "--lenght=3"], "Unknown command line flag 'lenght'"),
    (["--study=FOLDER/a", RATE, "--task=digits", "--length=3"], "--length: --task=digits does not take it"),
])
def test_a_mistake_is_one_line_and_nothing_is_left(given, said, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    line = refused(capsys, commands.sweep, *(text.replace("FOLDER", str(tmp_path)) for text in given))
    assert said.replace("FOLDER", str(tmp_path)) in line
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"file": "mine"}


def test_a_training_that_cannot_be_is_told_before_the_first_trial(tmp_path, capsys):
    line = refused(capsys, commands.sweep, f"--study={tmp_path}/a", RATE, "--task=sequences",
                   f"--data_dir={tmp_path}/nowhere.csv")
    assert "nowhere.csv" in line and not list(tmp_path.iterdir())


def test_it_trains_and_the_best_flags_train_with_other_seeds(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(goal, "found_apart", goal.of)  # this process has TensorFlow already
    monkeypatch.chdir(tmp_path)
    (tmp_path / "random.py").write_text("raise ImportError('this is mine')")
    run(commands.sweep, f"--study={tmp_path}/a", "--trials=1", "--seeds=1", "--search=units=int(3,9)",
        "--task=copy", "--model=lstm", "--nojit_compile", "--steps_per_epoch=1", "--epochs=1",
        "--max_length=3", "--test_length=3", "--batch_size=2")
    figures = last_line(capsys)
    folder = tmp_path / "a.runs"
    trial = json.loads((folder / "trial-0" / "metrics.json").read_text())
    assert figures["best"]["val_wrong_bits"] == trial["epochs"][0]["val_wrong_bits"]
    seed = json.loads((folder / "trial-0-seed-1" / "metrics.json").read_text())["result"]
    assert seed["seed"] == 1
    assert figures["seeds"]["n"] == 1 and figures["seeds"]["failed"] == 0
    assert figures["seeds"]["test_wrong_bits"] == {"mean": seed["test_wrong_bits"], "deviation": None}
    config = flags.read(folder / "trial-0-seed-1" / flags.FILE)
    assert config.layer["units"] == figures["best"]["units"]
    assert (folder / "comparison.html").exists()
