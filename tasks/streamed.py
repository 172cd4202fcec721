"""A task of own sequences that are streamed from shards: larger than memory."""

import functools

import numpy as np

from santm_tf.tasks import batches, channels, own, stored, targets
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION
from santm_tf.tasks.counted import counted
from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.examples import HELD_OUT, TEST_SHARE
from santm_tf.tasks.sizes import advice_of
from santm_tf.tasks.stream import Parting, Stream
from santm_tf.tasks.task import Task, by_epoch


def make(shards, batch_size, seed, target="auto", per_step=None, horizon=None, window=None,
         normalise="standard", missing="mask", differences=False, bend=0.0, class_weight="none",
         split="random", validation_share=None, test_share=TEST_SHARE, passes=1, *, kept=None):
    """A `Task` of `reading.shards.Shards`. The other arguments are those of `own.make`.

    What is counted of the shards stays in `Task.kept`, so that a run that goes on does not count them again.
    """
    _refuse(shards, window, split)
    own.refuse_bend(bend, shards.per_step)
    parting = _parting(shards, validation_share, test_share)
    kept = _facts(shards, parting, target, normalise, missing, differences, kept)
    found, front = kept["stream"], channels.Channels(kept["channels"])
    aims = targets.of_facts(kept["target"])
    weights = None
    if class_weight == "balanced":
        weights = own.balanced(None if aims.kind != "class" else np.array(found["classes"]))
    padding = None if found["even"] else batches.PADDING
    names = [one["name"] for group in ("numbers", "categories") for one in front.facts[group]]
    stream = Stream(shards.of_channels(names), parting, aims,
                    batches.Encoder(front, kept["steps"], padding, shards.per_step, bend, weights))
    train, validation, test = found["counts"]
    batch_size = batch_size or min(own.USUAL, train)
    stored.enough("sequences", batch_size, train)
    epoch = functools.partial(stream.epoch, seed=seed, batch_size=batch_size, passes=passes)
    held_out = VALIDATION if validation else TRAIN
    data = by_epoch(epoch, passes * (train // batch_size),
                    stream.ordered(held_out, batch_size, validation or train),
                    stream.ordered(TEST, batch_size, test))
    return Task(name="sequences", **data, features=front.width, padding=padding,
                length=None if padding else kept["steps"], return_sequences=shards.per_step,
                categories=front.sizes, front=front, kept=kept, about=tuple(found["about"]),
                **own.predicted(aims, found["chance"], validation > 0))


def advice(shards, choices, kept=None):
    """What to train with; see `sizes.advice_for`."""
    _refuse(shards, choices.get("window"), choices.get("split"))
    parting = _parting(shards, choices.get("validation_share"), choices.get("test_share") or TEST_SHARE)
    found = _facts(shards, parting, choices.get("target") or "auto", choices.get("normalise") or "standard",
                   choices.get("missing") or "mask", bool(choices.get("differences")), kept)
    whole = not shards.per_step
    return advice_of(found["stream"]["counts"][TRAIN], found["steps"], False, whole,
                     whole and found["target"]["kind"] == "class")


def _facts(shards, parting, target, normalise, missing, differences, kept):
    """`Task.kept` of shards: as it is if these were counted when the run began."""
    if kept and kept.get("stream", {}).get("shards") == shards.sizes:
        return kept
    return counted(shards, parting, target, normalise, missing, differences, kept)


def _parting(shards, validation, test):
    """Held out is what no file brings."""
    parts = {part for _, part in shards.found}
    validation = HELD_OUT if validation is None else validation
    return Parting(0.0 if VALIDATION in parts else validation, 0.0 if TEST in parts else test)


def _refuse(shards, window, split):
    where = f"{shards.found[0].path} is streamed"
    if window:
        raise TaskError(f"--window={window}: is of forecasts, and {where}; leave it out")
    if split == "time":
        raise TaskError(f"--split=time: {where}, and its sequences have no order; leave it out, or put the "
                        "last ones in shards called test")
    if shards.roles.group:
        raise TaskError(f"--group={shards.roles.group}: {where}, and is split sequence by sequence; leave it "
                        "out, or put what to test by in shards called test")
