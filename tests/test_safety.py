"""Nothing that is loaded runs code: saved models in every format, under either Keras, shards, and runs."""

import json
import os
import pathlib
import zipfile

import h5py
import numpy as np
import pytest
import tensorflow as tf

from santm_tf import load_model
from santm_tf.keras import READS_FOLDERS, keras
from santm_tf.paths import write_whole
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.recipes import made
from santm_tf.training import flags
from santm_tf.training.errors import UsageError

L = keras.layers
FORMATS = ["m.keras", "m.h5", *["m"] * READS_FOLDERS]
X = np.ones([1, 3], np.float32)


def model_of(*layers):
    return keras.Sequential([keras.Input([3]), *layers])


@pytest.mark.parametrize("name", FORMATS)
def test_a_lambda_runs_where_it_is_asked_for_alone(name, tmp_path, monkeypatch):
    """It writes a file. It is inside another layer, too."""
    monkeypatch.chdir(tmp_path)
    harm = L.Lambda(lambda x: (__import__("pathlib").Path("harm").write_text(""), x)[1], output_shape=(3,))
    model_of(harm, L.Dense(2)).save(name)
    pathlib.Path("harm").unlink(missing_ok=True)
    with pytest.raises(ValueError, match=rf"^{name}: carries code, a Lambda layer; safe_mode=False runs it"):
        load_model(name)(X)
    assert not os.path.exists("harm")
    load_model(name, safe_mode=False)(X)
    assert os.path.exists("harm")


@pytest.mark.parametrize("name", FORMATS)
def test_what_counts_is_read(name, tmp_path):
    x = keras.Input([3])
    y = L.Dense(2, "tanh")(x)
    model = keras.Model(x, y + 1.0 if READS_FOLDERS else y)  # Keras 2 has a layer for the sum
    if name == "m.keras":  # Keras 3 cannot read a loss or a metric of its own HDF5 files
        model.compile("adam", "mse", ["mae"])
    model.save(tmp_path / name)
    np.testing.assert_allclose(load_model(tmp_path / name)(X), model(X))


def function(module, name):
    named = {"module": module, "class_name": "function", "config": name, "registered_name": name}
    return {"activation": named}


@pytest.mark.parametrize("changes, said", [
    ({"class_name": "TFSMLayer"}, "a TFSMLayer layer"),
    ({"module": "subprocess", "class_name": "Popen", "registered_name": "Popen"}, "subprocess.Popen, which"),
    ({"class_name": "TFOpLambda", "config": {"function": "io.write_file"}}, "a call of tf.io.write_file"),
    (function("os", "system"), "os.system, which is not registered"),
    (function("builtins", "eval"), "builtins.eval, which is not registered"),
])
def test_what_acts_is_refused_by_its_name(changes, said, tmp_path):
    """Of a Dense layer's configuration something is changed, in a `.keras` and in an HDF5 file."""
    def changed(text):
        config = json.loads(text)
        layer = config["config"]["layers"][-1]
        layer.update({name: value for name, value in changes.items() if name != "activation"})
        if "activation" in changes:
            layer["config"]["activation"] = changes["activation"]
        return json.dumps(config)

    for name in ("m.keras", "m.h5"):
        model_of(L.Dense(2)).save(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "m.keras") as file:
        files = {each: file.read(each) for each in file.namelist()}
    with zipfile.ZipFile(tmp_path / "m.keras", "w") as file:
        for each, content in files.items():
            file.writestr(each, changed(content) if each == "config.json" else content)
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["model_config"] = changed(file.attrs["model_config"])
    for name in ("m.keras", "m.h5"):
        with pytest.raises(ValueError, match=f"carries code, {said}"):
            load_model(tmp_path / name)


@pytest.mark.skipif(not READS_FOLDERS, reason="Keras 3 reads no folder")
def test_a_graph_that_writes_a_file_is_refused(tmp_path):
    class Writes(L.Layer):
        def call(self, x):
            with tf.control_dependencies([tf.io.write_file(str(tmp_path / "harm"), "")]):
                return tf.identity(x)

    model_of(Writes()).save(tmp_path / "m")
    with pytest.raises(ValueError, match="carries code, an operation WriteFile"):
        load_model(tmp_path / "m")


@pytest.mark.parametrize("named", ["santm_tf.paths:write_whole", "santm_tf.tasks.indexed:Writer",
                                   "keras.losses:deserialize", "os:system"])
def test_shards_make_what_a_task_has_and_nothing_else(named, tmp_path):
    with pytest.raises(TaskError, match=f"^{named}: no "):
        made({"class": named, "config": {"path": f"{tmp_path}/harm", "content": ""}})


def test_a_runs_flag_file_does_not_say_where_to_write(tmp_path, capsys):
    text = "--task=adding\n--export_dir=/other\n--plots\n--workdir=/other\n--max_data_gb=1000\n"
    (tmp_path / "flags.cfg").write_text(text)
    config = flags.parse(["program", f"--workdir={tmp_path}"], saved=True)
    assert (config.session.workdir, config.session.export_dir) == (str(tmp_path), None)
    assert not config.session.plots and config.session.max_data_gb == 4.0
    assert f"warning: {tmp_path}/flags.cfg: --export_dir is taken from the command" in capsys.readouterr().err
    config = flags.parse(["program", f"--workdir={tmp_path}", "--export_dir=mine"], saved=True)
    assert config.session.export_dir == "mine"
    (tmp_path / "flags.cfg").write_text("--flagfile=/etc/passwd\n")
    with pytest.raises(UsageError, match="--flagfile=/etc/passwd: a run's own flag file names no other"):
        flags.parse(["program", f"--workdir={tmp_path}"], saved=True)


def test_a_link_is_replaced_and_not_what_it_names(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "report.html").symlink_to(tmp_path / "mine")
    write_whole(f"{tmp_path}/report.html", "new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "report.html").read_text() == "new"
