"""Each epoch's figure stands beside chance, and a run that only guesses is told so."""

import re

import pytest

from santm_tf.training.chance import AtChance
from santm_tf.training.commands import train
from tests.programs import run

ADDING = ["--task=adding", "--length=8", "--steps_per_epoch=3", "--model=lstm", "--units=2", "--epochs=3",
          "--nojit_compile"]


def said(figures, chance, epochs=9):
    """What is said of a run, by the epoch."""
    lines, found = [], {}
    callback = AtChance(lines.append, chance, epochs, "this")
    for epoch, logs in enumerate(figures):
        callback.on_epoch_end(epoch, logs)
        if lines:
            found[epoch] = lines.pop()
    return found


def test_a_run_at_chance_is_told_once_after_a_third():
    found = said([{"val_accuracy": value} for value in (0.09, 0.13, 0.12, 0.1, 0.1)], {"accuracy": 0.1})
    assert found == {2: "no better than guessing after 3 of 9 epochs: val_accuracy=0.120 (chance 0.100); try "
                        "this"}


@pytest.mark.parametrize("figures, chance, epochs", [
    ([{"val_accuracy": 0.2}, {"val_accuracy": 0.1}, {"val_accuracy": 0.1}], {"accuracy": 0.1}, 9),
    ([{"val_mse": 0.1}] * 3, {"mse": 0.2}, 9),
    ([{"val_accuracy": 0.1, "val_wrong": 2.0}] * 3, {"accuracy": 0.1, "wrong": 4.0}, 9),
    ([{"val_accuracy": 0.1}] * 2, {"accuracy": 0.1}, 2), ([{}] * 3, {"accuracy": 0.1}, 9),
    ([{"val_accuracy": 1.0}] * 3, {"accuracy": 1.0}, 9)])
def test_a_run_that_learns_or_is_short_is_not(figures, chance, epochs):
    assert said(figures, chance, epochs) == {}


@pytest.mark.usefixtures("no_views")
def test_it_is_said_as_a_run_goes(tmp_path, capsys):
    run(train, *ADDING, "--learning_rate=1e-9", f"--workdir={tmp_path}/run")
    lines = capsys.readouterr().err.strip().split("\n")
    assert sum(bool(re.search(r"^epoch \d/3 .*val_mse=\S+ \(chance 0\.167\)", line)) for line in lines) == 3
    told, = (line for line in lines if line.startswith("no better than guessing after 1 of 3 epochs: val_"))
    assert told.endswith("try --learning_rate=3.3e-10 or 3e-09, more --epochs, shorter sequences (--length)")
