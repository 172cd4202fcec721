"""Checkpoints of which one file is damaged or gone: the weights are those of one of them, or one line."""

import functools
import json
import os
import shutil
import tempfile
from unittest import mock

import hypothesis.strategies as st
import numpy as np

from santm_tf.training import flags
from santm_tf.training.checkpoints import Checkpoints, Position
from santm_tf.training.models import compiled
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task
from santm_tf.training.workdir import Workdir
from tests.fuzz import mutations
from tests.fuzz.workdirs import quiet

STEPS = 3, 6  # of the checkpoints
GONE = None  # the content of a file that is deleted
POSITION = "position"  # in the place of a file: the last checkpoint, saved with another position


@functools.cache
def _made():
    """The folder of a run with two checkpoints; its task and model."""
    folder = tempfile.mkdtemp(prefix="fuzz-")
    config = flags.parse(
        [
            "run",
            f"--workdir={folder}",
            "--task=copy",
            "--model=lstm",
            "--units=4",
            "--nojit_compile",
            "--max_length=2",
            "--batch_size=2",
            "--steps_per_epoch=9",
        ]
    )
    task = load_task(config)
    model = compiled(resolve(config, task), task)
    for step in STEPS:
        _saver(folder, task, model, step)._save()
        _saver(folder, task, model, step).good.save()
    return folder, task, model


def _saver(folder, task, model, step=0):
    """The checkpoints of a folder; the model's weights and step are set to a number."""
    saver = Checkpoints(Workdir(folder), task)
    saver.set_model(model)
    for weight in model.trainable_weights:
        weight.assign(np.full(weight.shape, step))
    model.optimizer.iterations.assign(step)
    saver.position.batch = step
    return saver


def cases():
    """The path of a file in the folder, and its other bytes; or a position."""
    _made()  # made before Hypothesis draws
    return _cases()


@st.composite
def _cases(draw):
    folder = _made()[0]
    if draw(st.integers(0, 4)) == 0:
        return POSITION, json.dumps(draw(mutations.json_like(json.loads(Position().serialize()))))
    paths = sorted(
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
    )
    contents = {}
    for path in paths:
        with open(os.path.join(folder, path), "rb") as file:
            contents[path] = file.read()
    path = draw(st.sampled_from(paths))
    kind = draw(st.integers(0, 9))
    if kind == 0:
        return path, GONE
    if kind == 1:
        return path, contents[draw(st.sampled_from(paths))]
    return path, draw(mutations.damaged(contents[path], list(contents.values())))


def check(case):
    """The run goes on from one of its checkpoints, and no other."""
    name, content = case
    made, task, model = _made()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as scratch, quiet():
        folder = os.path.join(scratch, "run")
        shutil.copytree(made, folder)
        if name == POSITION:
            with mock.patch.object(Position, "serialize", lambda position: content):
                _saver(folder, task, model, STEPS[-1])._save()
        elif content is GONE:
            os.remove(os.path.join(folder, name))
        else:
            with open(os.path.join(folder, name), "wb") as file:
                file.write(content)
        saver = _saver(folder, task, model)
        saver.resume()
        step = int(model.optimizer.iterations)
        assert step in STEPS, f"goes on from step {step}"
        assert all(np.array_equal(weight, np.full(weight.shape, step)) for weight in model.trainable_weights)
        if name != POSITION:
            assert saver.position.batch == step
        position = saver.position
        assert isinstance(position.epoch + position.batch + position.waited, int) and position.seconds >= 0
