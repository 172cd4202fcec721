"""Multi-query associative recall of Arora et al. 2023, arXiv 2312.04927, as their code draws it."""

from typing import Annotated

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.task import Scale, Task, TaskError


def sequences(count, pairs, length, vocabulary, key, power_a=0.01):
    """Pairs of a key and a value, then each key once more: the answer is its value.

    The first 2 n steps are n pairs, key and value in turn. Keys are different tokens from 1 to V/2 - 1,
    values different ones from V/2 to V - 1. Each key is asked at one of the steps 2 n, 2 n + 2, ...,
    which are drawn in turn without replacement. The g-th has the probability
    `g^(a - 1) / sum_h h^(a - 1)`. The other steps are tokens uniform over the whole vocabulary.
    (`_mqar` in zoology/data/associative_recall.py of HazyResearch/zoology.)

    Args:
      count: sequences, B. pairs: n. length: T, at least 4 n. vocabulary: V. key: int `[2]`, the random key.
      power_a: a. At 1 all places are alike.

    Returns:
      x int32 `[B, T]`; y int32 `[B, T]`, the value where a key is asked, else 0; the weight `[B, T]`,
      1 there.

    >>> x, y, weight = sequences(1, pairs=2, length=8, vocabulary=8, key=[0, 0])
    >>> [int(token) for token in x[0, :4]], [int(place) for place in tf.where(weight[0])[:, 0]]
    ([3, 6, 2, 4], [4, 6])
    """
    keys, values, places, fill = tf.unstack(tf.random.split(key, 4))
    half, space = vocabulary // 2, (length - 2 * pairs + 1) // 2
    ask = tf.range(1, space + 1, dtype=tf.float32)
    keys = 1 + _different(count, pairs, tf.zeros([half - 1]), keys)
    values = half + _different(count, pairs, tf.zeros([vocabulary - half]), values)
    places = 2 * (pairs + _different(count, pairs, (power_a - 1) * tf.math.log(ask), places))

    at = tf.stack([tf.broadcast_to(tf.range(count)[:, None], [count, pairs]), places], -1)
    asked = tf.scatter_nd(at, tf.ones_like(keys), [count, length])
    x = tf.scatter_nd(at, keys, [count, length])
    x += tf.pad(tf.reshape(tf.stack([keys, values], -1), [count, -1]), [[0, 0], [0, length - 2 * pairs]])
    other = tf.random.stateless_uniform([count, length], fill, 0, vocabulary, tf.int32)
    return (tf.where(x == 0, other, x), tf.scatter_nd(at, values, [count, length]),
            tf.cast(asked, tf.float32))


def _different(count, drawn, logits, key):
    """Numbers drawn in turn without replacement, int32 `[count, drawn]`, by the Gumbel-top-k trick.

    (Kool, van Hoof and Welling 2019, arXiv 1903.06059.)
    """
    u = tf.random.stateless_uniform([count, tf.size(logits)], key, 1e-20, 1.0)
    return tf.math.top_k(logits - tf.math.log(-tf.math.log(u)), drawn).indices


def load(batch_size, seed, pairs: int = 64, length: int = 256,
         vocabulary: Annotated[int, "[4, inf)"] = 8192, power_a: Annotated[float, "(0, inf)"] = 0.01,
         test_pairs: int | None = None, test_length: int | None = None, test_sequences: int = 320,
         steps_per_epoch: int = 200):
    """The value of each key, accuracy over the steps at which one is asked.

    Guessing among all values scores 2 / V.

    Args:
      pairs: pairs of a key and a value, n.
      vocabulary: tokens, V.
      power_a: the power of the gaps between a pair and its query; 1 draws the places uniformly.
      test_pairs: pairs in every test sequence, `pairs` by default.
      test_length: steps of a test sequence, `length` by default.

    The others are those of `copy.load` and `associative_recall.load`.

    Raises:
      TaskError: more pairs than keys, or than a quarter of the steps.

    >>> task = load(batch_size=4, seed=0, pairs=4, length=16, test_pairs=8, test_length=32)
    >>> [part.element_spec[0].shape for part in (task.train, task.test)]
    [TensorShape([4, 16]), TensorShape([4, 32])]
    """
    tested = test_pairs or pairs, test_length or length
    for option, some, steps in (("", pairs, length), ("test_", *tested)):
        if some > (keys := vocabulary // 2 - 1):
            raise TaskError(f"--{option}pairs={some}: a --vocabulary={vocabulary} has {keys} keys")
        if 4 * some > steps:
            raise TaskError(f"--{option}pairs={some}: needs a --{option}length of at least {4 * some}, "
                            f"not {steps}")

    def of(pairs, length):
        return lambda count, key, epoch: sequences(count, pairs, length, vocabulary, key, power_a)

    data = generated.splits(of(pairs, length), of(*tested), batch_size, seed, steps_per_epoch,
                            test_sequences=test_sequences, at_once=16)
    return Task(name="mqar", **data, length=length if tested[1] == length else None,
                scales=(Scale("test_pairs", "number of pairs", pairs),
                        Scale("test_length", "length", length)),
                **generated.tokens_asked(vocabulary, chance=1 / (vocabulary - vocabulary // 2)))
