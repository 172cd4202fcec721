"""The comparison of all models: its flags are flags, and its choices, runs and ranks are as it says."""

import math

import pytest
from matplotlib.figure import Figure
from scipy import stats

from benchmarks import rivals, rivals_settings, table, trained
from santm_tf import baselines
from santm_tf.training import flags

PAIRS = [(task, model) for task in rivals_settings.SETTINGS for model in rivals_settings.MODELS]


@pytest.mark.parametrize("task, model", PAIRS)
def test_what_it_gives_are_flags_that_fit_together(task, model):
    for option in rivals_settings.MODELS[model][1]:
        given = [*rivals_settings.flags(task, model), *option.split()]
        names = [text.split("=")[0].removeprefix("--") for text in given]
        assert len(names) == len(set(names))
        assert flags.parse(["train.py", *given, "--dry_run"]).model == model


def test_every_model_and_no_other_takes_part():
    assert set(rivals_settings.MODELS) == set(baselines.NAMES)


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """The flags of the runs that were asked for; their scores are 1 - |rate - 0.003| - option / 10."""
    asked = []

    def result(config, workdir, *given):
        made = dict(text.removeprefix("--").split("=") for text in given if "=" in text)
        asked.append(made)
        if float(made["learning_rate"]) == 0.01:
            raise SystemExit("its loss is NaN")
        scores[workdir] = 1 - abs(float(made["learning_rate"]) - 0.003) - 0.1 * ("memory_horizon" in made)
        return {"test_accuracy": scores[workdir] - int(made["seed"]) / 100, "seconds": 1.0, "parameters": 50}

    scores = {}
    monkeypatch.setattr(rivals, "FOLDER", str(tmp_path / "rivals"))
    monkeypatch.setattr(table, "FOLDER", str(tmp_path))
    monkeypatch.setattr(trained, "result", result)
    monkeypatch.setattr(trained, "flops", lambda *given: 2.0)
    monkeypatch.setattr(trained, "metrics", lambda workdir: {
        "epochs": [{"val_accuracy": 0.0}, {"val_accuracy": scores[workdir]}]})
    return asked


def test_validation_chooses_with_half_of_the_epochs_and_what_was_tried_is_kept(runs):
    row = rivals.Rivals("data", math.inf).row("pmnist", "lstm", seeds=3)
    assert [run["learning_rate"] for run in runs] == ["0.001", "0.003", "0.01", "0.003", *["0.003"] * 3]
    assert [run["epochs"] for run in runs] == ["2"] * 4 + ["4"] * 3
    assert [run["seed"] for run in runs] == ["0"] * 4 + ["0", "1", "2"]
    assert (row["rate"], row["option"], row["failed"]) == (0.003, "", 0)
    assert row["scores"] == pytest.approx([1.0, 0.99, 0.98])
    runs.clear()
    rivals.Rivals("data", math.inf).row("pmnist", "lstm", seeds=1)
    assert [run["epochs"] for run in runs] == ["4"]


def test_out_of_time_begins_no_run_and_goes_on_later(runs):
    with pytest.raises(rivals.OutOfTime):
        rivals.Rivals("data", -math.inf).row("pmnist", "lstm", seeds=3)
    assert not runs
    assert rivals.Rivals("data", math.inf).row("pmnist", "lstm", seeds=3)["seeds"] == 3


@pytest.mark.parametrize("task, first", [("pmnist", "a"), ("adding", "b")])
def test_ranks_are_by_the_mean_and_p_is_the_paired_t_tests(task, first):
    scores = {"a": [0.9, 0.8, 0.85], "b": [0.7, 0.75, 0.72], "c": []}
    rows = {name: {"task": task, "scores": values} for name, values in scores.items()}
    best, other = rivals.ranked(rows, task)
    assert best["scores"] == scores[first] and best["against"] == ""
    assert other["against"] == pytest.approx(stats.ttest_rel(scores["a"], scores["b"]).pvalue)


def test_the_picture_has_each_task_once_and_better_is_up(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "PICTURES", str(tmp_path))
    shown = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **options: shown.append((figure, path)))
    rows = {f"{task}, {model}": {"task": task, "model": model, "scores": [value, value + 0.1], "flops": value}
            for task in ("pmnist", "adding", "mqar") for model, value in (("santm", 1.0), ("lstm", 2.0))}
    rivals.draw(rows)
    (figure, path), = shown
    assert path == str(tmp_path / "rivals.png")
    axes = {axis.get_title(): axis for axis in figure.axes if axis.get_title()}
    assert list(axes) == ["pmnist: accuracy", "adding: mse", "mqar: accuracy"]
    assert [axis.yaxis_inverted() for axis in axes.values()] == [False, True, False]
    assert {text.get_text() for text in axes["adding: mse"].texts} == {"santm", "lstm"}
