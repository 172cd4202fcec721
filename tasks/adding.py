"""The adding problem as in Skip RNN, Campos et al. 2018, arXiv 1708.06834, section 4.1.

It is Hochreiter and Schmidhuber's (1997), with the markers placed as in Neil et al. 2016.
"""

from typing import Annotated

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.task import regression


def sequences(count, length, key):
    """Values and two markers; the target is the sum of the two marked values.

    The values are uniform from -0.5 to 0.5. One marker is in the first tenth of the steps (its first
    step where there are fewer than 20), the other in the second half.

    Args:
      count: sequences, B. length: T, int, at least 2. key: int `[2]`, the random key.

    Returns:
      x `[B, T, 2]`, value and marker, 1 at the two marked steps and 0 elsewhere; y `[B, 1]`.

    >>> x, y = sequences(3, length=50, key=[0, 0])
    >>> bool(tf.reduce_all(tf.reduce_sum(x[..., 0] * x[..., 1], 1) == y[:, 0]))
    True
    """
    value_key, first_key, second_key = tf.unstack(tf.random.split(key, 3))
    values = tf.random.stateless_uniform([count, length], value_key, -0.5, 0.5)

    def marker(key, start, stop):
        return tf.one_hot(tf.random.stateless_uniform([count], key, start, stop, tf.int32), length)

    marked = marker(first_key, 0, max(1, length // 10)) + marker(second_key, length // 2, length)
    return tf.stack([values, marked], -1), tf.reduce_sum(values * marked, 1, keepdims=True)


def load(batch_size, seed, length: Annotated[int, "[2, inf)"] = 50, steps_per_epoch: int = 200):
    """Adding two marked values out of `length`, 50 in the paper; one output, mean squared error.

    The mean predictor's error is the target's variance, 1/6. Campos et al. take the task as solved
    two orders of magnitude below it.

    Args:
      length: steps of a sequence, T.

    >>> load(batch_size=4, seed=0, length=200).train.element_spec[0].shape
    TensorShape([4, 200, 2])
    """
    return generated.always("adding", lambda count, key: sequences(count, length, key), batch_size, seed,
                            steps_per_epoch, features=2, length=length, **regression(chance=1 / 6))
