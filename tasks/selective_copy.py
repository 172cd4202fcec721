"""Selective copying of Gu and Dao 2023, arXiv 2312.00752, section 4.1."""

from typing import Annotated

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.task import Scale, Task, TaskError

BLANK = 0


def sequences(count, symbols, length, vocabulary, key):
    """Tokens at random steps with blanks between, then a mark at each step where one is to be given back.

    T = length + n steps: n tokens uniform from 1 to V - 2 at random ones of the first `length` steps, token 0
    at the others. Then n steps of token V - 1, at which the n tokens in their order are the target. (Of the
    same authors `torch_copying_data(..., variable=True)` in state-spaces/s4.)

    Args:
      count: sequences, B. symbols: n. length: at least n. vocabulary: V. key: int `[2]`, the random key.

    Returns:
      x int32 `[B, T]`; y int32 `[B, T]`, 0 where nothing is asked; the weight `[B, T]`, 1 where it is.

    >>> x, y, weight = sequences(1, symbols=2, length=5, vocabulary=6, key=[0, 1])
    >>> print(x.numpy(), y.numpy(), weight.numpy())
    [[0 0 2 0 1 5 5]] [[0 0 0 0 0 2 1]] [[0. 0. 0. 0. 0. 1. 1.]]
    """
    token_key, place_key = tf.unstack(tf.random.split(key))
    tokens = tf.random.stateless_uniform([count, symbols], token_key, 1, vocabulary - 1, tf.int32)
    order = tf.argsort(tf.random.stateless_uniform([count, length], place_key))
    places = tf.sort(order[:, :symbols])
    rows = tf.broadcast_to(tf.range(count)[:, None], [count, symbols])
    read = tf.scatter_nd(tf.stack([rows, places], -1), tokens, [count, length])
    nothing = tf.fill([count, length], BLANK)
    weight = tf.concat([tf.zeros([count, length]), tf.ones([count, symbols])], 1)
    return (tf.concat([read, tf.fill([count, symbols], vocabulary - 1)], 1),
            tf.concat([nothing, tokens], 1), weight)


def load(batch_size, seed, symbols: int = 16, length: int = 256,
         vocabulary: Annotated[int, "[4, inf)"] = 16, test_length: int | None = None,
         test_sequences: int = 320, steps_per_epoch: int = 200):
    """Giving back the tokens among blanks, accuracy over the last `symbols` steps.

    Guessing scores 1 / (V - 2). In the paper the length is 4096.

    Args:
      symbols: tokens to keep, n.
      length: steps in which they come.
      vocabulary: tokens, V; the first is the blank and the last asks.
      test_length: steps in which they come in every test sequence, `length` by default.

    The others are those of `mqar.load`.

    Raises:
      TaskError: more symbols than steps in which they come.

    >>> load(batch_size=4, seed=0, symbols=3, length=20).train.element_spec[0].shape
    TensorShape([4, 23])
    """
    tested = test_length or length
    for option, steps in (("length", length), ("test_length", tested)):
        if steps < symbols:
            raise TaskError(f"--{option}={steps}: must be at least --symbols={symbols}")

    def of(length):
        return lambda count, key, epoch: sequences(count, symbols, length, vocabulary, key)

    data = generated.splits(of(length), of(tested), batch_size, seed, steps_per_epoch,
                            test_sequences=test_sequences, at_once=16)
    return Task(name="selective_copy", **data, length=length + symbols if tested == length else None,
                scales=(Scale("test_length", "length", length),),
                **generated.tokens_asked(vocabulary, chance=1 / (vocabulary - 2)))
