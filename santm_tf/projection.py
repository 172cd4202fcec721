"""The l0 constraint on the access mask: the projection that keeps it, and the schedule of its budget."""

import math

import tensorflow as tf
from absl import logging

from santm_tf.errors import ArgumentError
from santm_tf.keras import keras, layers_of

LEAST = 2 ** -10  # the score at which the best step of a mask is kept that would else be empty


class AtMost(keras.constraints.Constraint):
    """Projection onto `||a||_0 <= D` for `a = 1[s > 0]`: the D highest scores stay, others fall to <= 0.

    The highest stays at `LEAST` or above: a memory that is never accessed has no gradient by which it could
    be. As a Keras constraint it is applied after every update of the scores.

    Args:
      budget: scalar int variable, D, at least 1.
    """

    def __init__(self, budget):
        self.budget = budget

    def __call__(self, scores):
        rank = tf.argsort(tf.argsort(scores, direction="DESCENDING", stable=True), stable=True)
        kept = tf.where(rank < tf.cast(self.budget, rank.dtype), scores, tf.minimum(scores, 0.0))
        return tf.where(rank == 0, tf.maximum(kept, LEAST), kept)


def accesses(rate, period):
    """How many of a period's steps an access rate is: `max(1, round(rate P))`."""
    return max(1, round(rate * period))


class L0Projection(keras.callbacks.Callback):
    """Lowers every `AccessMask`'s budget D, epoch by epoch, to a target access rate.

    `D_epoch = round(D* + (D_0 - D*) (1 - done)^n)`, done the share of the fall that is over. n = 1 is linear:
    Shan et al. 2025 prune a fixed number of steps an epoch. n = 3 is cubic (Zhu and Gupta 2017, arXiv
    1710.01878, equation 1), and prunes most while much is left. While D falls the plan has spare places, in
    which steps that are off get a gradient and can come back. The plan is halved when it can be, and at last
    cut to D*: each time `fit` traces its step anew. Of an `AdaptiveAccess` the rate itself falls. An
    `AblationMask` reaches D* after two thirds of the fall, and has the rest to exchange steps.

    Args:
      access_rate: the target, in (0, 1]; `D* = round(rate P)`.
      epochs: how many epochs the fall takes, from the start.
      warmup: epochs with the first mask before it, of those.
      spare: share of a period's steps to explore while falling.
      initial_rate: the access rate at the start, that of the masks; `D_0 = round(initial_rate P)`.
      schedule: "linear" or "cubic".
      below: the loss to wait for: the fall begins after the first epoch whose training loss is at most that,
        and halfway between `warmup` and `epochs` at the latest. A mask that falls before the task is learned
        cannot know which steps matter.
      began: for a run that goes on: the epoch at which the fall began, if it did.

    Logs the masks' `access_rate` at the end of each epoch, and warns where one was driven empty.

    Raises:
      ValueError: a rate outside (0, 1], a target above the start, an end before its start, or (on
        fitting) no AccessMask or AdaptiveAccess.

    >>> from santm_tf import L0Projection
    >>> schedule = L0Projection(0.25, epochs=5)
    >>> [schedule.budget(epoch, period=64) for epoch in range(7)]
    [64, 52, 40, 28, 16, 16, 16]
    """

    POWERS = {"linear": 1, "cubic": 3}

    def __init__(self, access_rate: float, epochs: int, warmup: int = 0, spare: float = 1 / 16,
                 initial_rate: float = 1.0, schedule: str = "linear", below: float | None = None,
                 began: int | None = None):
        super().__init__()
        if not 0 < access_rate <= 1:
            raise ArgumentError(f"L0Projection: access_rate={access_rate}; it must be in (0, 1]")
        if not access_rate <= initial_rate <= 1:
            raise ArgumentError(f"L0Projection: initial_rate={initial_rate}; it must be from "
                             f"access_rate={access_rate} to 1")
        if not 0 <= warmup < epochs:
            raise ArgumentError(f"L0Projection: warmup={warmup} must be in [0, epochs={epochs})")
        if schedule not in self.POWERS:
            raise ArgumentError(f"L0Projection: schedule={schedule!r}; use one of {', '.join(self.POWERS)}")
        self.access_rate, self.epochs, self.warmup, self.spare = access_rate, epochs, warmup, spare
        self.initial_rate, self.power = initial_rate, self.POWERS[schedule]
        self.below, self.began = below, began

    def set_model(self, model: keras.Model) -> None:
        super().set_model(model)
        # Not by their class, whose file has the projection from here.
        self.masks = [layer for layer in layers_of(model) if hasattr(layer, "emptied")]
        self.gates = [layer for layer in layers_of(model) if hasattr(layer, "hold_at")]
        if not self.masks and not self.gates:
            raise ArgumentError("L0Projection: the model has no AccessMask or AdaptiveAccess")

    def budget(self, epoch: int, period: int, settling: float = 0.0) -> int:
        """D at an epoch, counted from 0; it is D* for a share `settling` of the fall, its end."""
        return round(self._at(epoch, *(accesses(rate, period) for rate in (self.initial_rate,
                                                                           self.access_rate)), settling))

    def rate(self, epoch: int) -> float:
        """The access rate at an epoch, where no period makes it a number of steps."""
        return self._at(epoch, self.initial_rate, self.access_rate)

    def _at(self, epoch, start, target, settling=0.0):
        if epoch >= self.epochs - 1:
            return target
        begin = self._begin()
        done = max(0, epoch - begin) / max(1, (1 - settling) * (self.epochs - 1 - begin))
        return target + (start - target) * (1 - min(1, done)) ** self.power

    def _begin(self):
        """The epoch at which the fall begins, the last with the first mask."""
        if self.below is None:
            return self.warmup
        latest = (self.warmup + self.epochs) // 2
        return latest if self.began is None else min(max(self.warmup, self.began), latest)

    def on_train_begin(self, logs: dict | None = None) -> None:
        # What was traced before may have been with a shorter plan than the mask is about to have.
        self.model.make_test_function(force=True)
        self.model.make_predict_function(force=True)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        before = [mask.plan_size for mask in self.masks]
        for mask in self.masks:
            budget = self.budget(epoch, mask.period, mask.settling)
            waiting = epoch < self._begin() and budget == mask.period  # there is nothing to explore yet
            mask.aim = accesses(self.access_rate, mask.period)
            settles = mask.settling > 0 and epoch < self.epochs - 1
            falling = (settles or budget > mask.aim) and not waiting
            mask.limit(budget, max(1, round(self.spare * mask.period)) if falling else 0)
        for gate in self.gates:
            gate.hold_at(self.rate(epoch))
        after = [mask.plan_size for mask in self.masks]
        if after != before:
            self.model.make_train_function(force=True)
        # Until the end a longer plan than needed serves; hard-concrete gates may come to need a longer one.
        longer = any(new > old for old, new in zip(before, after, strict=True))
        if longer or after != before and epoch >= self.epochs - 1:
            self.model.make_test_function(force=True)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        if self.below is not None and self.began is None and (logs or {}).get("loss", math.inf) <= self.below:
            self.began = epoch + 1
        for mask in self.masks:
            mask.exchange()
            if mask.emptied():
                logging.warning("%s: the optimiser has switched off every step of the access mask; the best "
                                "one is kept. A lower learning rate or more warmup may help", mask.name)
        if logs is not None and self.masks:  # what an adaptive access did the model's own figures say
            logs["access_rate"] = sum(float(mask.rate) for mask in self.masks) / len(self.masks)
