"""The priority sort task of Graves et al. 2014, arXiv 1410.5401, section 4.5."""

import functools

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.generated import PADDING, pick, random_bits
from santm_tf.tasks.task import Scale


def sequences(lengths, max_length, sorted, bits, key):
    """Random bit vectors with priorities, of which the highest are to give back in falling order.

    A sequence of length L takes L + 1 + min(sorted, L) steps: L vectors, each with its priority,
    uniform from -1 to 1, beside it; the end mark; min(sorted, L) blank steps at which the vectors of
    the highest priorities are the target, the highest first. What follows is padding.

    Args:
      lengths, bits, key: see `copy.sequences`.
      max_length: int; sets T = max_length + 1 + min(sorted, max_length).
      sorted: how many vectors to give back.

    Returns:
      As in `copy.sequences`; the last two channels of x are the priority and the end mark.

    >>> x, y, weight = sequences([1, 3], max_length=3, sorted=2, bits=5, key=[0, 0])
    >>> x.shape, y.shape
    (TensorShape([2, 6, 7]), TensorShape([2, 6, 5]))
    >>> print(weight.numpy())
    [[0. 0. 1. 0. 0. 0.]
     [0. 0. 0. 0. 1. 1.]]
    """
    bit_key, priority_key = tf.unstack(tf.random.split(key))
    length = tf.convert_to_tensor(lengths, tf.int32)[:, None]
    asked = tf.minimum(length, sorted)
    place = tf.range(max_length)[None]
    step = tf.range(max_length + 1 + min(sorted, max_length))[None]
    vectors = random_bits([tf.shape(length)[0], max_length, bits], bit_key)
    priorities = tf.random.stateless_uniform(tf.shape(vectors)[:2], priority_key, -1.0, 1.0)
    priorities = tf.where(place < length, priorities, -2.0)  # the vectors not shown come last
    order = tf.argsort(priorities, direction="DESCENDING", stable=True)

    shown = step < length
    rows = tf.concat([vectors, priorities[..., None]], -1)
    read = pick(rows, step, shown)
    answer = step - (length + 1)
    recall = (answer >= 0) & (answer < asked)

    x = tf.concat([read, tf.cast(step == length, tf.float32)[..., None]], -1)
    y = pick(tf.gather(vectors, order, batch_dims=1), answer, recall)
    return tf.where((answer < asked)[..., None], x, PADDING), y, tf.cast(recall, tf.float32)


def load(batch_size, seed, min_length: int | None = None, max_length: int = 20,
         test_length: int | None = None, sorted: int = 16, bits: int = 8, steps_per_epoch: int = 200,
         curriculum: bool = False, curriculum_epochs: int = 10):
    """Sorting random bits by priority: 20 vectors in and the 16 highest out, as in the paper.

    Guessing scores log(2) s / (L + 1 + s) by the loss of `generated.bit_task`, s = min(sorted, L).

    Args:
      min_length: fewest vectors in a sequence; by default `max_length`, and 1 with a curriculum.
      sorted: how many vectors to give back; all of them where there are fewer.

    The others are those of `copy.load`, and so is the error.

    >>> task = load(batch_size=4, seed=0, test_length=40)
    >>> [part.element_spec[0].shape for part in (task.train, task.test)]
    [TensorShape([4, 37, 10]), TensorShape([4, 57, 10])]
    """
    min_length = min_length or (1 if curriculum else max_length)
    lengths = generated.lengths("length", min_length, max_length, curriculum, curriculum_epochs)
    test_length = test_length or max_length
    return generated.bit_task("priority_sort", functools.partial(sequences, sorted=sorted, bits=bits),
                              [lengths], [test_length], batch_size, seed, steps_per_epoch,
                              features=bits + 2, bits=bits, asked=min(sorted, test_length),
                              scales=(Scale("test_length", "length", max_length),))
