"""The copy task of Graves et al. 2014, "Neural Turing Machines", arXiv 1410.5401, section 4.1."""

import functools

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.generated import PADDING, pick, random_bits
from santm_tf.tasks.task import Scale


def sequences(lengths, max_length, bits, key):
    """Random bit vectors to read, and to give back after the end mark.

    A sequence of length L takes 2 L + 2 steps: the start mark, L vectors, the end mark, L blank
    steps at which the same L vectors are the target. What follows is padding.

    Args:
      lengths: L of each sequence, int32 `[B]`, at most `max_length`.
      max_length: int; sets T = 2 max_length + 2.
      bits: width of a vector.
      key: int `[2]`, the random key that decides the bits.

    Returns:
      x `[B, T, bits + 2]`, the last two channels the start and the end mark, `PADDING` in padded steps;
      y `[B, T, bits]`, 0 where nothing is asked; the weight `[B, T]`, 1 at recall steps, else 0.

    >>> x, y, weight = sequences([1, 2], max_length=2, bits=3, key=[0, 0])
    >>> x.shape, y.shape
    (TensorShape([2, 6, 5]), TensorShape([2, 6, 3]))
    >>> print(weight.numpy())
    [[0. 0. 0. 1. 0. 0.]
     [0. 0. 0. 0. 1. 1.]]
    """
    length = tf.convert_to_tensor(lengths, tf.int32)[:, None]
    step = tf.range(2 * max_length + 2)[None]
    vectors = random_bits([tf.shape(length)[0], max_length, bits], key)

    def show(index):
        """The vectors by index, and where they stand."""
        shown = (index >= 0) & (index < length)
        return pick(vectors, index, shown), tf.cast(shown, tf.float32)

    read, _ = show(step - tf.ones_like(length))
    target, weight = show(step - length - 2)
    start, end = (tf.cast(step == mark, tf.float32) for mark in (tf.zeros_like(length), length + 1))
    x = tf.concat([read, start[..., None], end[..., None]], -1)
    return tf.where((step < 2 * length + 2)[..., None], x, PADDING), target, weight


def load(batch_size, seed, min_length: int = 1, max_length: int = 20, test_length: int | None = None,
         bits: int = 8, steps_per_epoch: int = 200, curriculum: bool = False, curriculum_epochs: int = 10):
    """Copying random bits: lengths from a range in training and validation, one length in the test.

    Guessing scores log(2) L / (2 L + 2) by the loss of `generated.bit_task`, just under 0.35.

    Args:
      min_length: fewest vectors in a sequence, in training and validation.
      max_length: most vectors in a sequence there. Lengths are uniform between the two.
      test_length: vectors in every test sequence, `max_length` by default.
      bits: width of a vector.
      steps_per_epoch: batches in an epoch.
      curriculum: whether the longest length in training rises, see `generated.Lengths`.
      curriculum_epochs: epochs until it is `max_length`.

    Raises:
      TaskError: `max_length` is below `min_length`.

    >>> task = load(batch_size=4, seed=0, test_length=40)
    >>> [part.element_spec[0].shape for part in (task.train, task.test)]
    [TensorShape([4, 42, 10]), TensorShape([4, 82, 10])]
    """
    lengths = generated.lengths("length", min_length, max_length, curriculum, curriculum_epochs)
    test_length = test_length or max_length
    return generated.bit_task("copy", functools.partial(sequences, bits=bits), [lengths], [test_length],
                              batch_size, seed, steps_per_epoch, features=bits + 2, bits=bits,
                              asked=test_length, scales=(Scale("test_length", "length", max_length),))
