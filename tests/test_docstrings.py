"""The examples in the docstrings run."""

import doctest
import importlib
import pathlib
import pkgutil

import pytest

import santm_tf

ROOT = pathlib.Path(__file__).parent.parent
PACKAGES = ("santm_tf", "santm_tf.baselines", "santm_tf.tasks", "santm_tf.training", "santm_tf.pretrained",
            "benchmarks")


def modules():
    for package in PACKAGES:
        yield package
        folders = importlib.import_module(package).__path__ if package != "benchmarks" else [ROOT / package]
        for found in pkgutil.walk_packages(map(str, folders), f"{package}."):
            if not found.name.endswith("__main__"):
                yield found.name


@pytest.mark.parametrize("module", [name for name in modules() if "__main__" not in name])
def test_its_examples_run(module):
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(importlib.import_module(module), optionflags=flags).failed == 0


def test_there_are_examples():
    assert len(list(modules())) > 100 and santm_tf.__version__
