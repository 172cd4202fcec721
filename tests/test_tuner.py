"""KerasTuner, which makes, trains and chooses among models, makes ours as any."""

import keras_tuner
import pytest

from santm_tf import SANTM
from santm_tf.keras import VERSION, keras
from tests.helpers import random

pytestmark = pytest.mark.skipif(VERSION == 2, reason="KerasTuner is of the Keras that is imported first")


def build(given):
    model = keras.Sequential([
        keras.Input([6, 2]), SANTM(given.Choice("units", [3, 5]), memory_slots=6, slot_width=4, recall="read",
                                   jit_compile=False), keras.layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.01), "mse")
    return model


def test_it_finds_the_best_of_models_that_hold_a_santm(tmp_path):
    tuner = keras_tuner.GridSearch(build, "val_loss", max_trials=2, directory=tmp_path)
    x = random(8, 6, 2).astype("float32")
    tuner.search(x, x[:, 0, :1], validation_data=(x, x[:, 0, :1]), epochs=2, verbose=0)
    trials = tuner.oracle.get_best_trials(2)
    assert {trial.hyperparameters.get("units") for trial in trials} == {3, 5}
    best = tuner.get_best_models()[0]
    assert best.layers[0].units == trials[0].hyperparameters.get("units")
    figures = best.evaluate(x, x[:, 0, :1], verbose=0, return_dict=True)
    assert figures["loss"] == pytest.approx(trials[0].score, rel=1e-3)
