"""The schedule that brings the access mask down to its rate while training."""

import tensorflow as tf

from santm_tf.access import AccessMask
from santm_tf.errors import ArgumentError


class L0Projection(tf.keras.callbacks.Callback):
    """Lowers every `AccessMask`'s budget k, epoch by epoch, to a target access rate.

    `k_e = P + (k* - P) min(1, max(0, e - warmup) / fall)`, rounded: linear, as Shan et al. 2025
    prune a fixed number of steps an epoch. Between epochs the constraint on the scores keeps
    `||a||_0 <= k_e` after every update. While k falls the plan has spare places, in which steps
    that are off get a gradient and can come back; then the support is refined without. The plan is
    halved when it can be, and at last cut to k*: each time `fit` traces its step anew.

    Args:
      access_rate: the target, in (0, 1]; `k* = round(rate P)`.
      epochs: how many epochs the fall takes, from the start.
      warmup: epochs with the full mask before it, of those.
      spare: share of a period's steps to explore while falling.

    Logs `access_rate` at the end of each epoch.

    Raises:
      ValueError: a rate outside (0, 1], an end before its start, or (on fitting) no AccessMask.

    >>> from santm_tf import L0Projection
    >>> schedule = L0Projection(0.25, epochs=5)
    >>> [schedule.budget(epoch, period=64) for epoch in range(7)]
    [64, 52, 40, 28, 16, 16, 16]
    """

    def __init__(self, access_rate, epochs, warmup=0, spare=1 / 16):
        super().__init__()
        if not 0 < access_rate <= 1:
            raise ArgumentError(f"L0Projection: access_rate={access_rate}; it must be in (0, 1]")
        if not 0 <= warmup < epochs:
            raise ArgumentError(f"L0Projection: warmup={warmup} must be in [0, epochs={epochs})")
        self.access_rate, self.epochs, self.warmup, self.spare = access_rate, epochs, warmup, spare

    def set_model(self, model):
        super().set_model(model)
        self.masks = [layer for layer in model.submodules if isinstance(layer, AccessMask)]
        if not self.masks:
            raise ArgumentError("L0Projection: the model has no AccessMask")

    def budget(self, epoch, period):
        """k at an epoch, counted from 0."""
        target = max(1, round(self.access_rate * period))
        if epoch >= self.epochs - 1:
            return target
        done = max(0, epoch - self.warmup) / max(1, self.epochs - 1 - self.warmup)
        return round(period + (target - period) * done)

    def on_train_begin(self, logs=None):
        # What was traced before may have been with a shorter plan than the mask is about to have.
        self.model.make_test_function(force=True)
        self.model.make_predict_function(force=True)

    def on_epoch_begin(self, epoch, logs=None):
        resized = False
        for mask in self.masks:
            target = max(1, round(self.access_rate * mask.period))
            count = self.budget(epoch, mask.period)
            spare = round(self.spare * mask.period) if count > target else 0
            resized |= mask.limit(count, spare)
        if resized:
            self.model.make_train_function(force=True)
        if resized and epoch >= self.epochs - 1:  # till then the longer plan it was traced with serves
            self.model.make_test_function(force=True)

    def on_epoch_end(self, epoch, logs=None):
        if logs is not None:
            logs["access_rate"] = sum(float(mask.rate) for mask in self.masks) / len(self.masks)
