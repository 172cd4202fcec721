"""What earlier versions wrote is read, and gives what it gave.

`dense.keras` and `sparse` are models whose arguments had other names and were all SANTM's own.
`made_golden.py` made the archives.
"""

import json
import pathlib
import zipfile

import numpy as np
import pytest

from santm_tf import SANTM, baselines, load_model
from santm_tf.cells import CascadeLSTMCell
from santm_tf.keras import READS_FOLDERS, VERSION
from santm_tf.lstm import ChronoBias
from santm_tf.training.commands import evaluate, train
from serving import states
from serving.model import Model
from tests.made_golden import MODELS, RUN, examples, results, served
from tests.programs import code_of, last_line

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


@pytest.fixture(scope="module", params=sorted(path.stem for path in GOLDEN.glob("*.zip")))
def made(request, tmp_path_factory):
    """The folder of what a version wrote, which Keras that was, and what it gave."""
    folder = tmp_path_factory.mktemp("golden")
    with zipfile.ZipFile(GOLDEN / f"{request.param}.zip") as archive:
        archive.extractall(folder)
    return folder, int(request.param[-1]), np.load(folder / "numbers.npz")


def near(found, wanted):
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", MODELS)
def test_saved_models_give_what_they_gave(name, made):
    folder, by, numbers = made
    if by > VERSION:
        pytest.skip("Keras 2 cannot read how Keras 3 says which layers are joined")
    baselines.load(MODELS[name][0])
    near(load_model(folder / f"{name}.keras")(numbers["x"]), numbers[name])


@pytest.mark.usefixtures("no_views")
def test_a_work_directory_scores_what_it_scored_and_goes_on_as_it_did(made, capsys):
    folder, by, numbers = made
    work = folder / "run"
    recorded = json.loads((work / "metrics.json").read_text())["result"]
    assert code_of(evaluate, f"--workdir={work}") == 0
    found = last_line(capsys)
    assert found.keys() == recorded.keys()
    near(*([figures[name] for name in recorded if name.startswith("test_")] for figures in (found, recorded)))
    if by == VERSION:  # an optimiser's names are its Keras' own
        assert code_of(train, *RUN, "--epochs=3", f"--workdir={work}", "--resume") == 0
        assert len(json.loads((work / "metrics.json").read_text())["epochs"]) == 3
        near(list(results(work).values()), numbers["resumed"])


def test_exports_streams_and_shards_give_what_they_gave(made):
    folder, by, numbers = made
    if by == 2:
        pytest.skip("no Keras has a part in them: the archive of Keras 3 has them")
    model = Model(str(folder / "export"))
    near(served(model)[0], numbers["served"])
    held = states.load(folder / "streams.npz", model.first_state, 2)
    assert list(held) == ["one", "other"]
    near(served(model, held["one"])[0], numbers["streamed"])
    assert not np.allclose(numbers["streamed"], numbers["served"], atol=1e-3)
    near(served(model, held["other"])[0], numbers["served"])
    np.testing.assert_array_equal(examples(folder / "shards"), numbers["examples"])
