"""Induction heads of Gu and Dao 2023, arXiv 2312.00752, section 4.1."""

from typing import Annotated

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.task import Scale, Task, classification


def sequences(count, length, vocabulary, key):
    """Random tokens in which a special one comes once, and again at the end: what followed it at first?

    Tokens are uniform from 0 to V - 2. Token V - 1 is the special one. Its first place is uniform over the
    steps 0 to T - 3.

    Args:
      count: sequences, B. length: T, at least 3. vocabulary: V. key: int `[2]`, the random key.

    Returns:
      x int32 `[B, T]`; y int32 `[B]`.

    >>> x, y = sequences(1, length=6, vocabulary=5, key=[0, 0])
    >>> print(x.numpy(), y.numpy())
    [[4 2 2 2 1 4]] [2]
    """
    token_key, place_key = tf.unstack(tf.random.split(key))
    tokens = tf.random.stateless_uniform([count, length], token_key, 0, vocabulary - 1, tf.int32)
    place = tf.random.stateless_uniform([count, 1], place_key, 0, length - 2, tf.int32)
    step = tf.range(length)[None]
    x = tf.where((step == place) | (step == length - 1), vocabulary - 1, tokens)
    return x, tf.gather(tokens, place[:, 0] + 1, batch_dims=1)


def load(batch_size, seed, length: Annotated[int, "[3, inf)"] = 256,
         vocabulary: Annotated[int, "[3, inf)"] = 16,
         test_length: Annotated[int, "[3, inf)"] | None = None, test_sequences: int = 1280,
         steps_per_epoch: int = 200):
    """The token that followed the special one, one answer a sequence.

    Guessing scores 1 / (V - 1). In the paper the length is 256.

    Args:
      vocabulary: tokens, V; the last is the special one.
      test_length: steps of a test sequence, `length` by default; in the paper up to 2^20.

    The others are those of `mqar.load`.

    >>> task = load(batch_size=4, seed=0, length=16, test_length=64)
    >>> [part.element_spec[0].shape for part in (task.train, task.test)]
    [TensorShape([4, 16]), TensorShape([4, 64])]
    """
    def of(length):
        return lambda count, key, epoch: sequences(count, length, vocabulary, key)

    tested = test_length or length
    data = generated.splits(of(length), of(tested), batch_size, seed, steps_per_epoch, sequences=1280,
                            test_sequences=test_sequences, at_once=16)
    return Task(name="induction", **data, vocabulary=vocabulary, length=length if tested == length else None,
                scales=(Scale("test_length", "length", length, least=3),),
                **classification(vocabulary, chance=1 / (vocabulary - 1)))
