"""Makes a golden file of this version, for `test_golden.py`: `python -m tests.made_golden` under each Keras.

`tests/golden/VERSION-kerasN.zip` holds what users keep: a work directory with its checkpoints, saved models;
in what no Keras has a part, and Keras 3 alone makes, an export, shards, and a file of the server's streams;
and `numbers.npz`, what they give. One that is there stays: a later version makes its own beside.
"""

import json
import pathlib
import shutil
import sys
import tempfile
import zipfile

import numpy as np
import tensorflow as tf

import santm_tf
from santm_tf import baselines, tasks
from santm_tf.keras import VERSION, keras
from santm_tf.training.board import Board
from santm_tf.training.commands import export, shard, train
from serving import states
from serving.model import Model
from tests.programs import run

FOLDER = pathlib.Path(__file__).parent / "golden"
RUN = ["--task=adding", "--length=6", "--steps_per_epoch=2", "--batch_size=4", "--epochs=2", "--units=4",
       "--memory_slots=4", "--slot_width=4", "--attention_heads=1", "--access_rate=0.5", "--nojit_compile"]
LEFT_OUT = "logs", "training.lock"
MODELS = {"key_value": ("santm", {"memory": "key_value", "memory_slots": 8, "slot_width": 4,
                                   "top_k": 2, "locality": 2}),
          "ntm": ("ntm", {"memory_slots": 4, "slot_width": 4}),
          "lmu": ("lmu", {"order": 4})}


def results(folder):
    """The figures of the last epoch of a run, and those on its test split, which do not say when it was."""
    metrics = json.loads((pathlib.Path(folder) / "metrics.json").read_text())
    figures = {**metrics["epochs"][-1], **metrics["result"]}
    return {name: value for name, value in figures.items() if isinstance(value, float) and name != "seconds"}


def served(model, state=None):
    """What the server's model gives: for sequences of two lengths, and after two steps of a stream.

    Args:
      state: of the stream before them.
    """
    x = np.random.default_rng(0).normal(size=[2, 6, 2]).astype(np.float32).tolist()
    whole = model.predict({"inputs": [x[0], x[1][:3]]})
    state, given = state or model.first_state, []
    for step in x[0][:2]:
        outputs, state = model.step({"inputs": [step]}, state)
        given.append(outputs["outputs"])
    return np.concatenate(list(map(np.ravel, [*(row["outputs"] for row in whole), *given]))), state


def examples(folder):
    """All numbers of the test split of a folder of shards."""
    task = tasks.load("shards", batch_size=4, seed=0, data_dir=str(folder))
    return np.concatenate([np.ravel(part) for batch in task.test.as_numpy_iterator()
                           for part in tf.nest.flatten(batch)])


def make(folder):
    """Makes all that a golden file holds."""
    work, x = folder / "run", np.random.default_rng(0).normal(size=[2, 6, 2]).astype(np.float32)
    run(train, *RUN, f"--workdir={work}")
    numbers = {"x": x}
    for name, (model, given) in MODELS.items():
        layer = baselines.make(model, {"units": 3, **given}, seed=0, steps=6, jit_compile=False)
        model = keras.Sequential([keras.Input([6, 2]), layer, keras.layers.Dense(1)])
        model.save(folder / f"{name}.keras")
        numbers[name] = model(x).numpy()
    if VERSION == 3:
        make_served(folder, numbers)
    more = shutil.copytree(work, folder.parent / "more")
    run(train, *RUN, "--epochs=3", f"--workdir={more}", "--resume")
    numbers["resumed"] = np.array(list(results(more).values()))
    np.savez(folder / "numbers.npz", **numbers)


def make_served(folder, numbers):
    """Makes what no Keras has a part in."""
    run(export, f"--workdir={folder / 'run'}", f"--export_dir={folder / 'export'}")
    model = Model(str(folder / "export"))
    numbers["served"], state = served(model)
    states.save(folder / "streams.npz", {"one": state, "other": model.first_state}, model.first_state)
    numbers["streamed"], _ = served(model, state)
    text = folder.parent / "text.txt"
    text.write_text("to be or not to be\n" * 20)
    run(shard, "--task=chars", f"--data_dir={text}", "--window=8", "--batch_size=4",
        f"--out={folder / 'shards'}", "--shards=1")
    numbers["examples"] = examples(folder / "shards")


def main():
    path = FOLDER / f"{santm_tf.__version__}-keras{VERSION}.zip"
    if path.exists():
        sys.exit(f"{path}: is there; what a version made stays")
    Board._views = lambda board: ()
    with tempfile.TemporaryDirectory() as top:
        folder = pathlib.Path(top, "made")
        folder.mkdir()
        keras.utils.set_random_seed(0)
        make(folder)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for file in sorted(folder.rglob("*")):
                if file.is_file() and not set(file.relative_to(folder).parts) & set(LEFT_OUT):
                    archive.write(file, file.relative_to(folder))
    print(f"{path}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
