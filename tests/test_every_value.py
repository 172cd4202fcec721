"""One step of training with every value of every enumerated flag of models, optimisers and tasks."""

import wave

import numpy as np
import pandas as pd
import pytest

from santm_tf.tasks import images
from santm_tf.training import sharding
from santm_tf.training.config import GROUPS, MODEL, NEEDS, OPTIMISER, TASK, configured, known, options
from santm_tf.training.models import compiled
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task
from tests.helpers import in_keras_3_alone
from tests.test_image_tasks import made_up

SMALL = {"jit_compile": False, "units": "4", "batch_size": "2", "steps_per_epoch": "1", "length": "4",
         "max_length": "2", "max_repeats": "2", "max_items": "2", "pairs": "2", "delay": "3", "symbols": "2",
         "test_sequences": "2", "locality": "2", "memory_slots": "8",
         "slot_width": "4", "order": "4", "layers": "2"}
OF_THE_TASK = {"adding": {"length": "2"}, "cifar10": {"side": "8", "pixels_per_step": "16"},
               "mqar": {"length": "16", "vocabulary": "16"},
               **dict.fromkeys(["mnist", "pmnist", "fashion_mnist"], {"pixels_per_step": "196"}),
               **dict.fromkeys(["words", "chars"], {"window": "4"})}
# What a value has no effect without, beside `config.NEEDS`, or cannot be without.
BESIDE = {("mask_schedule", "cubic"): {"access_rate": "0.5"}, ("split", "time"): {"horizon": "1"},
          ("target", "number"): {"label": "current"}, ("per_step", True): {"label": "state"}}
IMAGES = {"mnist", "pmnist", "fashion_mnist", "cifar10"}
ENDS = {"sequences": ".csv", "text": ".csv", "words": ".txt", "chars": ".txt"}


def enumerated():
    """Every value of a flag that has a few: `group, owner, name, value`, the owner a model or a task.

    A default is left out: it is in the case of its owner. What all owners take alike is tested of the first.
    """
    for group in (MODEL, OPTIMISER, TASK):
        for name, owners in known(group).items():
            alike = len(set(owners.values())) == 1 and len(owners) == len(known(group).get(group, owners))
            for owner, option in list(owners.items())[:None if name in (MODEL, TASK) or not alike else 1]:
                values = (True, False) if option.kind is bool else option.choices
                if name in (MODEL, TASK):
                    yield group, owner, name, owner
                else:
                    yield from ((group, owner, name, value) for value in values if value != option.default)


def asked(group, owner, name, value):
    """The flags of one case, as small as they can be."""
    given = {MODEL: "lstm", TASK: "adding", **({group: owner} if owner else {}), name: value}
    if name in NEEDS:
        other, wanted = NEEDS[name]
        given |= {} if isinstance(wanted, tuple) else {other: wanted}
    given |= BESIDE.get((name, value), {})
    taken = {flag for each in GROUPS for flag in options(given[MODEL], given[TASK], each)}
    small = SMALL | OF_THE_TASK.get(given[TASK], {})
    idle = {flag for flag, (other, wanted) in NEEDS.items()
            if other in given and given[other] not in (wanted if isinstance(wanted, tuple) else (wanted,))}
    return {flag: text for flag, text in small.items() if flag in taken - idle} | given


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A folder of small data for each task that reads some."""
    folder, rng = tmp_path_factory.mktemp("data"), np.random.default_rng(0)
    rows = [(run, t, rng.normal(), "ok" if run % 2 else "fault") for run in range(20) for t in range(5)]
    pd.DataFrame(rows, columns=["run", "t", "current", "state"]).to_csv(folder / "sequences.csv", index=False)
    for dataset in images.SHAPES:
        np.savez(folder / f"{dataset}.npz", **made_up(dataset))
    texts = [(f"a {'bad' if n % 2 else 'good'} day {n}", n % 2) for n in range(40)]
    pd.DataFrame(texts, columns=["text", "label"]).to_csv(folder / "text.csv", index=False)
    for name in ("words.txt", "chars.txt"):
        (folder / name).write_text("to be or not to be\n" * 40)
    (folder / "sounds").mkdir()
    for n in range(40):
        with wave.open(str(folder / "sounds" / f"{n % 2}_{'ab'[n % 2]}_{n}.wav"), "wb") as out:
            out.setparams((1, 2, 8000, 0, "NONE", ""))
            out.writeframes(rng.normal(0, 3000, 800).astype("<i2").tobytes())
    sharding.write(configured({"task": "adding", "length": "4", "steps_per_epoch": "1"}),
                   str(folder / "shards"), 1)
    return folder


@pytest.fixture(scope="module")
def loaded():
    """Tasks and a batch of each, by what they were asked for."""
    return {}


@in_keras_3_alone
@pytest.mark.parametrize("case", enumerated(), ids=lambda case: "-".join(map(str, case[1:])))
def test_a_step_of_training(case, data, loaded, monkeypatch):
    monkeypatch.setattr(images, "VALIDATION", 30)
    given = asked(*case)
    if "data_dir" in options(given[MODEL], given[TASK], TASK):
        task = given[TASK]
        given["data_dir"] = str(data if task in IMAGES else data / (task + ENDS.get(task, "")))
    config = configured(given)
    key = config.task, tuple(config.data.items())
    if key not in loaded:
        task = load_task(config)
        loaded[key] = task, next(iter(task.train))
    task, batch = loaded[key]
    model = compiled(resolve(config, task), task)
    model.run_eagerly = True
    before = [weight.numpy() for weight in model.trainable_weights]
    figures = model.train_on_batch(*batch)
    assert np.all(np.isfinite(figures))
    after = [weight.numpy() for weight in model.trainable_weights]
    assert any(np.any(a != b) for a, b in zip(after, before, strict=True))
    assert all(np.all(np.isfinite(weight)) for weight in after)
