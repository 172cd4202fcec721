"""Frequency discrimination as in Skip RNN, Campos et al. 2018, arXiv 1708.06834, section 4.2."""

import math

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.task import TaskError, classification

DURATION = 100.0  # ms
SHORTEST, LONGEST = 1.0, 100.0  # periods in ms
FROM, TO = 5.0, 6.0  # those of class 1


def sequences(count, sampling_period, key):
    """Sine waves of 100 ms; the class is 1 where the period is between 5 and 6 ms.

    Half the periods are uniform over (5, 6) ms, class 1, and half over (1, 5) and (6, 100) ms, class 0. The
    classes take turns, so every batch is stratified. The phase is uniform over the period, so the first
    sample tells nothing. Sampled each 1 ms, periods of 1.20 to 1.25 ms alias onto those of class 1; they are
    one in 2,000 of class 0.

    Args:
      count: sequences, B. sampling_period: time between two steps in ms. key: int `[2]`, the random key.

    Returns:
      x `[B, T, 1]` in [-1, 1], T = 100 // sampling_period; y int32 `[B]`, 0 or 1.

    >>> x, y = sequences(4, 0.5, key=[0, 0])
    >>> x.shape, y.numpy()
    (TensorShape([4, 200, 1]), array([0, 1, 0, 1], dtype=int32))
    """
    inside_key, outside_key, phase_key = tf.unstack(tf.random.split(key, 3))
    label = tf.range(count) % 2
    inside = tf.random.stateless_uniform([count], inside_key, FROM, TO)
    outside = tf.random.stateless_uniform([count], outside_key, SHORTEST, LONGEST - (TO - FROM))
    outside += tf.where(outside > FROM, TO - FROM, 0.0)
    period = tf.where(label == 1, inside, outside)[:, None]
    phase = tf.random.stateless_uniform([count, 1], phase_key, 0.0, 2 * math.pi)
    time = sampling_period * tf.range(int(DURATION / sampling_period), dtype=tf.float32)
    return tf.sin(2 * math.pi * time / period + phase)[..., None], label


def load(batch_size, seed, sampling_period: float = 1.0, steps_per_epoch: int = 200):
    """Two classes of sine waves by their period, from one sample a step.

    Args:
      sampling_period: time between two steps in ms; 1 and 0.5 in the paper, for 100 and 200 steps.

    Raises:
      TaskError: a sampling period that cannot work.

    >>> load(batch_size=4, seed=0, sampling_period=0.5).train.element_spec[0].shape
    TensorShape([4, 200, 1])
    """
    if not 0 < sampling_period <= FROM / 2:
        raise TaskError(f"--sampling_period={sampling_period}: must be above 0 and at most {FROM / 2} ms, "
                        f"two samples in a period of {FROM:g} ms")
    return generated.always("frequency", lambda count, key: sequences(count, sampling_period, key),
                            batch_size, seed, steps_per_epoch, features=1,
                            length=int(DURATION / sampling_period), **classification(2, chance=0.5))
