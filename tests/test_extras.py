"""The core alone, and what says in one line which extra it needs."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

WITHOUT = ["sklearn", "tqdm", "matplotlib", "tensorboard", "tensorflow_addons", "fastapi", "uvicorn",
           "pandas", "pyarrow", "optuna"]
LSTM = ["--model=lstm", "--units=4", "--nojit_compile", "--task=adding", "--length=5", "--max_steps=1"]
PROGRAM = f"""
import json, sys
for name in {WITHOUT}:
    sys.modules[name] = None  # Python then finds none
from santm_tf.training import commands
for name, *argv in json.loads(sys.argv[1]):
    print("ran", name, file=sys.stderr)
    try:
        getattr(commands, name)([name, *argv])
    except SystemExit as stop:
        print(stop.code, file=sys.stderr)
"""


def ran(*argv, **environment):
    return subprocess.run([sys.executable, *argv], capture_output=True, text=True, check=False,
                          env=os.environ | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment)


def test_the_core_trains_alone_and_names_the_extra_that_something_else_needs(tmp_path):
    run, other = f"--workdir={tmp_path}/run", f"--workdir={tmp_path}/other"
    commands = {
        "tasks": [["train", "--task=digits", other], ["train", "--task=mnist", other]],
        "plots": [["train", "--plots", *LSTM, other], ["train", "--profile_steps=1,1", *LSTM, other],
                  ["evaluate", "--plots", run], ["evaluate", "--plots", f"--workdir={tmp_path},{tmp_path}"],
                  ["inspect", run, "--input=x.npy", "--out=figures"]],
        "sweep": [["sweep", f"--study={tmp_path}/a.study", "--search=units=int(4,8)"]]}
    found = ran("-c", PROGRAM, json.dumps([["train", *LSTM, run], *sum(commands.values(), [])]))
    _, trained, *others = found.stderr.split("ran ")
    assert json.loads(found.stdout)["task"] == "adding", found.stderr
    assert 'nothing for TensorBoard: tensorboard is not installed: pip install "santm-tf[plots]"' in trained
    assert "epoch 1/30 [0:00:00 left]" in trained
    extras = [extra for extra, uses in commands.items() for _ in uses]
    for extra, said in zip(extras, others, strict=True):
        *_, line, code = said.strip().split("\n")
        assert code == "2" and line.startswith("error: ")
        assert line.endswith(f' is not installed: pip install "santm-tf[{extra}]"')
    assert os.listdir(tmp_path) == ["run"]


def test_keras_2_is_an_extra(tmp_path):
    code = ("import sys; sys.modules['tf_keras'] = None\n"
            f"from santm_tf.training.commands import train; train(['train', '--workdir={tmp_path}/run'])")
    found = ran("-c", code, TF_USE_LEGACY_KERAS="1")
    said = found.stderr.strip().split("\n")[-1]
    assert said == 'error: tf_keras is not installed: pip install "santm-tf[keras2]"'
    assert found.returncode == 2


@pytest.mark.parametrize("package", ["fastapi", "uvicorn", "prometheus_client"])
def test_the_server_says_what_it_needs(package):
    code = (f"import runpy, sys; sys.modules['{package}'] = None\n"
            "runpy.run_module('santm_tf.serving.server', run_name='__main__')")
    found = ran("-c", code)
    assert found.stderr.startswith(f"error: {package} is not installed: pip install ")
    assert found.returncode == 2


def test_every_package_of_an_extra_is_pinned():
    """CI and `make` install requirements.txt alone."""
    tomllib = pytest.importorskip("tomllib", reason="Python 3.10 reads no TOML")
    with open("pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    extras = project["optional-dependencies"]
    del extras["ray"]  # a gigabyte for one test
    asked = {distribution(line) for extra in extras.values() for line in extra}
    assert asked | set(map(distribution, project["dependencies"])) <= pinned() | {"santm-tf"}


def test_all_that_the_server_needs_is_pinned():
    """It is what strangers reach, so pip-audit is to know all of it."""
    needed, seen = ["fastapi", "uvicorn"], set()
    while needed:
        seen.add(name := needed.pop())
        asked = map(Requirement, importlib.metadata.requires(name) or ())
        needed += {distribution(each.name) for each in asked
                   if not each.marker or each.marker.evaluate({"extra": ""})} - seen
    assert seen <= pinned()


def pinned():
    with open("requirements.txt") as file:
        return {distribution(line) for line in file if line.strip() and not line.startswith("#")}


def distribution(requirement):
    return re.match(r"[\w-]+", requirement)[0].replace("_", "-").lower()
