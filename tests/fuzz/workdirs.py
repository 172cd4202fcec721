"""Work directories of which one file is damaged: the run is read, with its own weights, or one line."""

import contextlib
import functools
import io
import json
import os
import shutil
import tempfile
from unittest import mock

import hypothesis.strategies as st
import numpy as np

from santm_tf import machine
from santm_tf.training import comparison, flags, mask_history, run
from santm_tf.training.workdir import FILES, Workdir
from tests import made_run
from tests.fuzz import mutations, readers

LARGEST = 2**27  # bytes of memory that the machine is said to have


@functools.cache
def _made():
    """A finished run, its folder; an input, and its model's weights."""
    data = readers.corpus()["long.csv"]
    folder = tempfile.mkdtemp(prefix="fuzz-")
    with quiet():
        _, task, model = made_run.make(
            folder, "--task=sequences", "--batch_size=4", f"--data_dir={data.folder}/{data.file}"
        )
    workdir = Workdir(folder)
    result = {"task": "sequences", "model": "santm", "seed": 0, "test_loss": 1.0, "test_accuracy": 0.5}
    epochs = workdir.read_metrics()["epochs"]
    workdir.write_metrics({"epochs": epochs, "best": {"val_loss": 1.0}, "result": result})
    mask_history.note(folder, 2, np.ones([8], bool))
    x = next(iter(task.train))[0]
    return folder, x, model.get_weights()


@contextlib.contextmanager
def quiet():
    """Within it nothing is printed."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def cases():
    """The name of a file, and other bytes for it."""
    _made()  # made before Hypothesis draws
    return _cases()


@st.composite
def _cases(draw):
    folder, name = _made()[0], draw(st.sampled_from([flags.FILE, *FILES]))
    contents = {}
    for each in (flags.FILE, *FILES):
        with open(os.path.join(folder, each), "rb") as file:
            contents[each] = file.read()
    if name.endswith(".json") and draw(st.integers(0, 3)):
        return name, json.dumps(draw(mutations.json_like(json.loads(contents[name])))).encode()
    if name == flags.FILE and draw(st.booleans()):
        from tests.fuzz.flags import argument

        lines = contents[name].split(b"\n")
        lines.insert(draw(st.integers(0, len(lines))), draw(argument()).encode("utf-8", "surrogatepass"))
        return name, b"\n".join(lines)
    return name, draw(mutations.damaged(contents[name], list(contents.values())))


def check(case):
    """All that reads a run's folder reads it: `evaluate`, `export`, `inspect`, `--plots`, a comparison."""
    name, content = case
    made, x, weights = _made()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as scratch,
        quiet(),
        mock.patch.object(machine, "memory", lambda: LARGEST),
    ):
        folder = os.path.join(scratch, "run")
        shutil.copytree(made, folder)
        with open(os.path.join(folder, name), "wb") as file:
            file.write(content)
        workdir = Workdir(folder)
        epochs = workdir.read_metrics()["epochs"]
        assert np.isfinite(sum(epoch["seconds"] for epoch in epochs))
        rows = mask_history.read(folder)
        assert rows is None or rows.dtype == bool
        if name == "metrics.json":
            comparison.write([folder])
        if name in ("metrics.json", "masks.npy"):
            return
        for model in (run.load_model(folder), run.load_folder(folder).model):
            found = model(x).numpy()
            assert np.isfinite(found).all()
            if name != flags.FILE:
                assert all(map(np.array_equal, model.get_weights(), weights))
