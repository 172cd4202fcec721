"""docs/extending.md by following it: its blocks are written as files, registered and run."""

import dataclasses
import importlib
import pathlib
import re
import runpy
import sys

import numpy as np
import pytest
import tensorflow as tf

import santm_tf
from santm_tf import SANTM, DenseMemory, baselines, tasks
from santm_tf.addressing import ADDRESSING
from santm_tf.analysis.trace import trace
from santm_tf.keras import keras
from santm_tf.memories import MEMORIES
from santm_tf.training import config, flags, models
from santm_tf.training.errors import UsageError
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task
from tests.pages import Page

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs/extending.md"
BLOCKS = dict(re.findall(r"(?ms)^```python\n# (\S+)\n(.*?)^```", PAGE.read_text()))
MODULES = {path: re.sub(r"^(tasks|baselines)\.", r"santm_tf.\1.", path.removesuffix(".py").replace("/", "."))
           for path in BLOCKS}
ADDED = {path for path in BLOCKS if (ROOT / path).exists()}  # to a file that is there


@pytest.fixture(scope="module", autouse=True)
def page(tmp_path_factory):
    """The folder of the page's files, which can be imported and are registered while these tests run."""
    folder = tmp_path_factory.mktemp("page")
    for path in BLOCKS.keys() - ADDED:
        (folder / path).parent.mkdir(exist_ok=True)
        (folder / path).write_text(BLOCKS[path])
    with pytest.MonkeyPatch.context() as patch:
        for package in santm_tf, baselines, tasks:
            added = folder / package.__name__.split(".")[-1]
            patch.setattr(package, "__path__", [*package.__path__, str(added)])
        for registry, name, value in ((MEMORIES, "round_robin", None), (ADDRESSING, "content", None),
                                      (baselines.MODELS, "simple_rnn", "santm_tf.baselines.simple_rnn"),
                                      (tasks.TASKS, "parity", "santm_tf.tasks.parity:load")):
            patch.setitem(registry, name, value)  # and so taken out afterwards
        for path in ADDED:
            exec(compile(BLOCKS[path], path, "exec"), {**vars(importlib.import_module(MODULES[path]))})
        for group, package, name in ("model", baselines, "simple_rnn"), ("task", tasks, "parity"):
            patch.setattr(package, "NAMES", (*package.NAMES, name))
            choice = dataclasses.replace(config.CHOICES[group], choices=package.NAMES)
            patch.setitem(config.CHOICES, group, choice)
        config.known.cache_clear()
        yield folder
    for path in BLOCKS.keys() - ADDED:
        sys.modules.pop(MODULES[path], None)
    config.known.cache_clear()


def configured(*argv):
    """The configuration, the task and the model of `train.py`'s flags."""
    run = flags.parse(["train.py", "--dry_run", "--nojit_compile", *argv])
    run = resolve(run, task := load_task(run))
    return run, task, models.compiled(run, task)


@pytest.mark.parametrize("path", [path for path in BLOCKS if path.startswith("tests/")])
def test_the_pages_own_tests_pass(path, page):
    for test in (tests := [v for k, v in runpy.run_path(page / path).items() if k.startswith("test_")]):
        test()
    assert tests


def test_the_pages_commands_run(page, tmp_path, monkeypatch, no_views):
    commands = Page(PAGE, languages=["sh"])
    monkeypatch.chdir(tmp_path)
    commands.run()
    assert commands.short


def test_a_memory_trains_is_traced_and_streams_what_the_whole_gives():
    layer = SANTM(4, memory="round_robin", memory_slots=6, slot_width=4, read_heads=2, locality=1,
                  access_rate=0.4, return_sequences=True, jit_compile=False)
    model = keras.Sequential([keras.Input([5, 3]), layer])
    model.compile("adam", "mse", run_eagerly=True)
    x, before = tf.random.stateless_normal([2, 5, 3], [0, 0]), layer.top.kernel.numpy()
    model.train_on_batch(x, tf.ones([2, 5, 4]))
    assert np.abs(layer.top.kernel.numpy() - before).max() > 0
    assert SANTM.from_config(layer.get_config()).memory == layer.memory
    np.testing.assert_allclose(trace(layer, x).write_weights.sum((2, 3)), 1)
    whole, state = layer(x), layer.first_state(batch=2)
    for t in range(5):
        y, state = layer.step(x[:, t], state)
        np.testing.assert_allclose(y, whole[:, t], atol=1e-5)


def test_an_addressing_mode_gives_santms_heads_their_weights():
    layer = SANTM(8, memory=DenseMemory(addressing="content"), jit_compile=False)
    layer(tf.zeros([1, 3, 2]))
    m, top = tf.random.stateless_normal([1, 1, 8], [0, 0]), layer.top
    memory = top.get_initial_state(batch_size=1)[-1].numpy()[0]
    _, state = top.run(m, tf.ones([1, 1, 1]))
    head = top.heads(state.h)[0].numpy()[0, 0]  # the read head's key and strength
    cosines = memory @ (key := np.tanh(head[:-1])) / np.linalg.norm(key) / np.linalg.norm(memory, axis=1)
    powers = np.exp(np.log1p(np.exp(head[-1])) * cosines)
    np.testing.assert_allclose(state.read_weights[0, 0], powers / powers.sum(), rtol=1e-4)


def test_a_task_has_its_flags_and_trains():
    _, task, model = configured("--task=parity", "--length=6", "--steps_per_epoch=2", "--model=lstm")
    x, y = next(iter(task.train))
    assert x.shape == [32, 6, 1]
    np.testing.assert_array_equal(y, x.numpy().sum((1, 2)) % 2)
    before = model.get_weights()
    assert np.isfinite(model.fit(task.train, verbose=0).history["loss"]).all()
    assert all((old != new).any() for old, new in zip(before, model.get_weights(), strict=True))
    with pytest.raises(UsageError, match="--length=0: must be a whole number of at least 1"):
        configured("--task=parity", "--length=0")


def test_a_baseline_is_made_by_name_and_sized():
    run, _, model = configured("--model=simple_rnn", "--match_parameters=500", "--task=parity")
    units = run.layer["units"]
    assert models.parameters(model) == units * (units + 2) + 2 * (units + 1) == pytest.approx(500, rel=0.05)
    with pytest.raises(UsageError, match="--memory_slots=8: --model=simple_rnn does not use it"):
        configured("--model=simple_rnn", "--memory_slots=8")
