"""The trained models that come with the library."""

import os
import re

import numpy as np
import pytest

import santm_tf
from santm_tf import pretrained
from santm_tf.errors import ArgumentError
from santm_tf.training.commands import evaluate
from santm_tf.training.workdir import Workdir
from tests.programs import last_line, refused, run

each = pytest.mark.parametrize("name", pretrained.NAMES)


def files(folder):
    return {os.path.join(where, name): os.stat(os.path.join(where, name)).st_mtime_ns
            for where, _, names in os.walk(folder) for name in names}


def card(name):
    """The rows of a card, `{head: text}`."""
    with open(os.path.join(pretrained.folder(name), "README.md")) as file:
        return dict(re.findall(r"^\| ([^|]+) \| (.+) \|$", file.read(), re.MULTILINE))


@each
def test_it_is_small_and_holds_no_path_of_the_machine_it_was_trained_on(name):
    there = files(pretrained.folder(name))
    assert sum(map(os.path.getsize, there)) < 1_000_000
    with open(os.path.join(pretrained.folder(name), "flags.cfg")) as file:
        assert "/" not in file.read()


@each
def test_its_card_says_what_it_is_and_what_it_scores(name):
    rows, result = card(name), Workdir(pretrained.folder(name)).read_metrics()["result"]
    assert {"takes", "gives", "data", "licence of the data", "trained by", "scored by"} <= rows.keys()
    metric = "wrong_bits" if name == "recall" else "accuracy"
    figure = f"{result['test_' + metric]:.3f}"
    assert rows[f"test {metric.replace('_', ' ')}"].startswith(figure)
    assert rows["by seed"].startswith(f"0: {figure}") and "--seed=0" in rows["trained by"]
    assert rows["weights"] == f"{result['parameters']:,}"


@each
def test_it_takes_and_gives_what_its_outline_says(name):
    outline = Workdir(pretrained.folder(name)).read_outline()
    model = santm_tf.load_pretrained(name)
    steps = outline.length or 20
    y = model(np.random.default_rng(0).uniform(size=[2, steps, outline.features]))
    assert y.shape == ([2, steps, outline.outputs] if outline.return_sequences else [2, outline.outputs])
    assert np.isfinite(y).all() and np.ptp(y) > 0


def test_digits_score_what_their_card_says_and_leave_the_folder_as_it_is(capsys):
    folder = pretrained.folder("digits")
    before, told = files(folder), Workdir(folder).read_metrics()["result"]
    run(evaluate, f"--workdir={folder}", "--nojit_compile")
    assert last_line(capsys)["test_accuracy"] == pytest.approx(told["test_accuracy"], abs=1e-3)
    assert files(folder) == before


def test_a_model_whose_data_are_elsewhere_asks_for_them(capsys):
    folder = pretrained.folder("speakers")
    assert "--data_dir: --task=sounds needs a folder" in refused(capsys, evaluate, f"--workdir={folder}")


def test_an_unknown_name_is_answered_by_those_there_are():
    with pytest.raises(ArgumentError, match="'letters'; it must be digits, mnist, speakers or recall"):
        santm_tf.load_pretrained("letters")
