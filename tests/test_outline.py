"""A run's model without its data."""

import dataclasses
import os

import numpy as np
import pytest

from santm_tf import tasks
from santm_tf.keras import keras
from santm_tf.training.errors import UsageError
from santm_tf.training.outline import Outline
from santm_tf.training.run import load_model
from santm_tf.training.workdir import Workdir
from tests.made_run import make


@pytest.mark.parametrize("flags", [
    ["--task=digits", "--access_rate=auto", "--initial_access_rate=1"],
    ["--task=copy", "--max_length=4", "--batch_size=4", "--mask_period=1"],
    ["--task=adding", "--length=5", "--batch_size=4", "--model=lstm", "--match_parameters=2000"],
], ids=lambda flags: flags[0])
def test_a_runs_model_is_built_again_without_its_data(flags, tmp_path, monkeypatch):
    folder, task, model = make(tmp_path / "run", *flags)
    x, *_ = next(iter(task.test))
    monkeypatch.setattr(tasks, "load", None)
    again = load_model(folder)
    np.testing.assert_allclose(again.predict(x, verbose=0), model.predict(x, verbose=0), rtol=1e-5, atol=1e-6)
    again.compile("sgd", keras.losses.MeanSquaredError())  # it can be trained further


def test_an_outline_that_is_written_is_read_back(tmp_path):
    task = tasks.load("adding", batch_size=4, seed=0)
    task = dataclasses.replace(task, categories=(3, 4), classes=["no", "così"], vocabulary=9)
    workdir = Workdir(str(tmp_path))
    workdir.keep(task)
    assert workdir.read_outline() == Outline.of(task)


@pytest.mark.parametrize("text, said", [(None, "no outline.json"), ("{", "outline.json: damaged")])
def test_an_outline_that_cannot_be_read_is_named(text, said, tmp_path):
    folder, *_ = make(tmp_path / "run", "--task=adding", "--length=5", "--batch_size=4", "--model=lstm")
    path = os.path.join(folder, "outline.json")
    os.remove(path)
    if text:
        with open(path, "w") as file:
            file.write(text)
    with pytest.raises(UsageError, match=said):
        load_model(folder)
