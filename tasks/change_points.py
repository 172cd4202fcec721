"""Levels that jump at known steps: the target counts each stretch once, however long it is.

Who knows where a level changes can add the stretches up; the average over time weighs them by length.
"""

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.task import regression

FEATURES, NOISE = 4, 0.15
FAR = 2000  # steps from the start
SHORTEST, HAZARD = 3, 1 / 8  # steps that a level lasts at least; after those it ends with this probability


def sequences(count, length, key):
    """Vectors that stay at a random level for a while, with noise; the target is the sum of the levels.

    `x_t = level_k(t) + 0.15 noise_t`, `y = sum_k level_k,0`, k(t) the number of changes up to t. A level is
    uniform in [-1, 1]^4. It lasts 3 steps and from then on ends with probability 1/8 before each further one,
    so 10 steps on average. The last one lasts as long as the sequence does.

    Args:
      count: sequences, B. length: T, int. key: int `[2]`, the random key.

    Returns:
      x `[B, T, 4]`; y `[B, 1]`; changes bool `[B, T]`, True at the first step of each level but the first.

    >>> x, y, changes = sequences(3, length=100, key=[0, 0])
    >>> x.shape, y.shape, changes.shape, bool(tf.reduce_any(changes[:, :3]))
    (TensorShape([3, 100, 4]), TensorShape([3, 1]), TensorShape([3, 100]), False)
    """
    last_key, level_key, noise_key = tf.unstack(tf.random.split(key, 3))
    most = -(-length // SHORTEST)
    # Trials up to the first success, by the inverse of their distribution function; 1 - u is above 0.
    u = tf.random.stateless_uniform([count, most], last_key)
    further = tf.math.floor(tf.math.log(1 - u) / tf.math.log(1 - HAZARD))
    changes = tf.cumsum(SHORTEST + tf.cast(further, tf.int32), axis=1)
    changes = tf.reduce_any(tf.one_hot(changes, length, True, False), 1)
    k = tf.cumsum(tf.cast(changes, tf.int32), axis=1)
    levels = tf.random.stateless_uniform([count, most, FEATURES], level_key, -1, 1)
    x = tf.gather(levels, k, batch_dims=1)
    x += NOISE * tf.random.stateless_normal([count, length, FEATURES], noise_key)
    happened = tf.sequence_mask(k[:, -1] + 1, most, levels.dtype)
    return x, tf.reduce_sum(levels[..., 0] * happened, 1, keepdims=True), changes


def expected_levels(length):
    """How many levels a sequence has on average: one, and a change at each step by its probability.

    `P(change at t) = sum_g P(a level lasts g) P(change at t - g)`, a change at 0 being certain. So with h the
    hazard it is `(1 - h) P(change at t - 1) + h P(change at t - 3)`. Far from the start it is one over the
    mean length of a level, to the last digit.

    >>> expected_levels(3), expected_levels(5), round(expected_levels(10**9))
    (1.0, 1.234375, 100000001)
    """
    change = [1.0, *[0.0] * (SHORTEST - 1)][:length]
    for t in range(SHORTEST, min(length, FAR)):
        change.append((1 - HAZARD) * change[t - 1] + HAZARD * change[t - SHORTEST])
    return sum(change) + max(length - FAR, 0) / (SHORTEST - 1 + 1 / HAZARD)


def load(batch_size, seed, length: int = 100, steps_per_epoch: int = 200):
    """The sum of the levels that a sequence goes through, one output, mean squared error.

    The mean predictor's error is the target's variance, `expected_levels(T) / 3`: the levels are independent
    of each other and of how many there are, of mean 0 and variance 1/3.

    >>> load(batch_size=4, seed=0, length=60).train.element_spec[0].shape
    TensorShape([4, 60, 4])
    """
    return generated.always("change_points", lambda count, key: sequences(count, length, key)[:2], batch_size,
                            seed, steps_per_epoch, features=FEATURES, length=length,
                            **regression(chance=expected_levels(length) / 3))
