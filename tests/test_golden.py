"""Models that an earlier version saved, whose arguments had other names and were all SANTM's own."""

import pathlib

import numpy as np
import pytest

from santm_tf import SANTM, load_model
from santm_tf.cells import CascadeLSTMCell
from santm_tf.keras import READS_FOLDERS
from santm_tf.lstm import ChronoBias

GOLDEN = pathlib.Path(__file__).parent / "golden"


@pytest.mark.parametrize("name, path", [("dense", "dense.keras"), ("sparse", "sparse")])
def test_a_model_of_an_earlier_version_gives_what_it_gave(name, path):
    """`dense.keras`: a learned mask and learned boundaries; `sparse`: a SavedModel, both fixed."""
    golden = np.load(GOLDEN / "golden.npz")
    if name == "sparse" and not READS_FOLDERS:
        with pytest.raises(ValueError, match="cannot read this model of Keras 2 .*save_weights") as error:
            load_model(GOLDEN / path)
        assert "\n" not in str(error.value)
    else:
        np.testing.assert_allclose(load_model(GOLDEN / path)(golden["x"]), golden[name], atol=1e-6)


def test_what_it_is_saved_as_now_is_the_same_model(tmp_path):
    golden = np.load(GOLDEN / "golden.npz")
    load_model(GOLDEN / "dense.keras").save(tmp_path / "again.keras")
    again = load_model(tmp_path / "again.keras")
    np.testing.assert_allclose(again(golden["x"]), golden["dense"], atol=1e-6)
    config = next(layer for layer in again.layers if isinstance(layer, SANTM)).get_config()
    assert "memory_slots" not in config and config["memory"]["memory_slots"] == 6
    assert config["memory_horizon"] == 5 and config["access"]["config"]["plan_size"] == 4


@pytest.mark.parametrize("made", [CascadeLSTMCell(3, memory_horizon=7), ChronoBias(7, seed=1)])
def test_a_configuration_with_the_old_name_of_the_horizon_is_read(made):
    config = made.get_config()
    config["max_steps"] = config.pop("memory_horizon")
    assert type(made).from_config(config).get_config() == made.get_config()
