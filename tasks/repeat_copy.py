"""The repeat copy task of Graves et al. 2014, arXiv 1410.5401, section 4.2."""

import functools
import math

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.generated import PADDING, Lengths, pick, random_bits
from santm_tf.tasks.task import Scale


def sequences(lengths, repeats, max_length, max_repeats, bits, key, known_repeats=None):
    """Random bit vectors and a count, to give back so many times, and then an end marker.

    A sequence of L vectors and n repeats takes L (n + 1) + 3 steps: the start mark, L vectors, one
    step with the end mark and the count, n times L blank steps at which the vectors are the target,
    one blank step at which the target is the end marker. What follows is padding.

    As in the paper the count has a channel of its own, normalised to mean 0 and variance 1. The end mark
    beside it is our choice: a count at the mean is 0, and its step would be blank without the mark.

    Args:
      lengths, bits, key: see `copy.sequences`.
      repeats: n of each sequence, int32 `[B]`, at most `max_repeats`.
      max_length, max_repeats: ints; they set T = max_length (max_repeats + 1) + 3.
      known_repeats: the count is normalised as uniform on 1 ... known_repeats; `max_repeats` by default.

    Returns:
      As in `copy.sequences`, but x `[B, T, bits + 3]`, whose last three channels are the start mark, the
      end mark and the count, and y `[B, T, bits + 1]`, whose last channel is the end marker.

    >>> x, y, weight = sequences([1, 2], [2, 1], max_length=2, max_repeats=2, bits=3, key=[0, 0])
    >>> x.shape, y.shape
    (TensorShape([2, 9, 6]), TensorShape([2, 9, 4]))
    >>> print(weight.numpy())
    [[0. 0. 0. 1. 1. 1. 0. 0. 0.]
     [0. 0. 0. 0. 1. 1. 1. 0. 0.]]
    >>> print(x[0, :, -1].numpy(), y[0, :, -1].numpy())
    [ 0.  0.  1.  0.  0.  0. -1. -1. -1.] [0. 0. 0. 0. 0. 1. 0. 0. 0.]
    """
    known_repeats = known_repeats or max_repeats
    length, count = (tf.convert_to_tensor(n, tf.int32)[:, None] for n in (lengths, repeats))
    step = tf.range(max_length * (max_repeats + 1) + 3)[None]
    vectors = random_bits([tf.shape(length)[0], max_length, bits], key)

    answer = step - (length + 2)
    last = length * count
    end = tf.cast(step == length + 1, tf.float32)
    deviation = math.sqrt((known_repeats**2 - 1) / 12) or 1.0
    number = (tf.cast(count, tf.float32) - (known_repeats + 1) / 2) / deviation
    marks = [tf.cast(step == 0, tf.float32) * tf.ones_like(end), end, number * end]
    read = pick(vectors, step - 1, (step >= 1) & (step <= length))
    copies = pick(vectors, answer % length, (answer >= 0) & (answer < last))

    x = tf.concat([read, tf.stack(marks, -1)], -1)
    y = tf.concat([copies, tf.cast(answer == last, tf.float32)[..., None]], -1)
    weight = tf.cast((answer >= 0) & (answer <= last), tf.float32)
    return tf.where((answer <= last)[..., None], x, PADDING), y, weight


def load(batch_size, seed, min_length: int = 1, max_length: int = 10, test_length: int | None = None,
         max_repeats: int = 10, test_repeats: int | None = None, bits: int = 8,
         steps_per_epoch: int = 200, curriculum: bool = False, curriculum_epochs: int = 10):
    """Repeating random bits: lengths and counts uniform from ranges, as in the paper.

    Guessing scores log(2) (L n + 1) / (L (n + 1) + 3) by the loss of `generated.bit_task`.

    Args:
      max_repeats: most repeats in training and validation, where the fewest are 1.
      test_repeats: repeats in every test sequence, `max_repeats` by default. The paper tests on 20,
        where the normalised count is larger than any in training.
      curriculum: whether the longest length and the most repeats in training rise, see `generated.Lengths`.
      curriculum_epochs: epochs until they are `max_length` and `max_repeats`.

    The others are those of `copy.load`, and so is the error.

    >>> task = load(batch_size=4, seed=0, test_repeats=20)
    >>> [part.element_spec[0].shape for part in (task.train, task.test)]
    [TensorShape([4, 113, 11]), TensorShape([4, 213, 11])]
    """
    lengths = generated.lengths("length", min_length, max_length, curriculum, curriculum_epochs)
    tested = test_length or max_length, test_repeats or max_repeats
    for longest, repeats in (max_length, max_repeats), tested:
        generated.countable("repeat_copy", longest * (repeats + 1) + 3)
    make = functools.partial(sequences, bits=bits, known_repeats=max_repeats)
    ranges = lengths, Lengths(1, max_repeats, lengths.epochs)
    return generated.bit_task("repeat_copy", make, ranges, tested, batch_size, seed, steps_per_epoch,
                              features=bits + 3, bits=bits + 1, asked=math.prod(tested) + 1,
                              scales=(Scale("test_length", "length", max_length),
                                      Scale("test_repeats", "number of repeats", max_repeats)))
