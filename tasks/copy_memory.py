"""The copying memory problem of Arjovsky et al. 2016, arXiv 1511.06464, section 4.1.

Hochreiter and Schmidhuber's in its present form: ten symbols are to be kept over a long blank.
"""

import math

import tensorflow as tf

from santm_tf.keras import keras
from santm_tf.tasks import generated
from santm_tf.tasks.task import Task

SYMBOLS = 8
RECALL = 10  # symbols to keep
BLANK, DELIMITER = SYMBOLS, SYMBOLS + 1


def sequences(count, delay, key, shown=None):
    """Ten symbols, blanks, a delimiter; ten blanks at which the symbols are the target.

    With a delay of D, T = D + 20: ten symbols uniform over eight, D - 1 blanks, the delimiter, ten
    blanks. The target is blank for D + 10 steps, then the ten symbols in their order.

    Args:
      count: sequences, B. delay: D, int or scalar tensor. key: int `[2]`, the random key.
      shown: shorter delays, int32 `[B]`, each from 1 to D. More blanks stand before the symbols then, and T
        is the same.

    Returns:
      x `[B, T, 10]` one-hot, symbols, blank, delimiter; y int32 `[B, T]`, 0 to 7 a symbol, 8 a blank.

    >>> x, y = sequences(1, delay=2, key=[0, 0])
    >>> tf.argmax(x, -1).numpy()[0, 10:], y.numpy()[0, :12]
    (array([8, 9, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8]), array([8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 8], ...))
    >>> bool(tf.reduce_all(tf.cast(tf.argmax(x, -1)[:, :10], tf.int32) == y[:, 12:]))
    True
    """
    symbols = tf.random.stateless_uniform([count, RECALL], key, 0, SYMBOLS, tf.int32)

    before = tf.zeros([count, 1], tf.int32) if shown is None else delay - shown[:, None]
    step = tf.range(delay + 2 * RECALL)[None] - before  # from the first symbol on
    kept = tf.gather(symbols, tf.clip_by_value(step, 0, RECALL - 1), axis=1, batch_dims=1)
    asked = tf.where(step + before == delay + RECALL - 1, DELIMITER, BLANK)
    x = tf.where((step >= 0) & (step < RECALL), kept, asked)
    y = tf.concat([tf.fill([count, delay + RECALL], BLANK), symbols], 1)
    return tf.one_hot(x, SYMBOLS + 2), y


def longest_delay(delay, epoch, epochs):
    """The longest delay of an epoch, int32: a 32nd of D, and twice as long after each fifth of `epochs`.

    >>> [int(longest_delay(200, tf.constant(epoch), epochs=10)) for epoch in (0, 1, 2, 4, 6, 8, 10, 99)]
    [7, 7, 13, 25, 50, 100, 200, 200]
    """
    doublings = tf.minimum(5 * tf.cast(epoch, tf.int32) // epochs, 5)
    return -(-delay // 2 ** (5 - doublings))


@keras.saving.register_keras_serializable("tasks")
class RecallAccuracy(keras.metrics.SparseCategoricalAccuracy):
    """The share of the last ten steps, those of the recall, that are right.

    >>> metric = RecallAccuracy()
    >>> _ = metric.update_state(tf.zeros([1, 50], tf.int32), tf.one_hot([50 * [1]], 9))
    >>> float(metric.result())
    0.0
    """

    def __init__(self, name="accuracy", dtype=None):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true, y_pred, sample_weight=None):
        if sample_weight is not None:
            sample_weight = sample_weight[:, -RECALL:]
        return super().update_state(y_true[:, -RECALL:], y_pred[:, -RECALL:], sample_weight)


def load(batch_size, seed, delay: int = 200, steps_per_epoch: int = 200, curriculum: bool = False,
         curriculum_epochs: int = 10):
    """Recalling ten symbols after a blank of `delay` steps.

    As in the paper the loss is the cross-entropy at every step, mean over all T = delay + 20 of them.
    Who remembers nothing answers blank until the delimiter, guesses after it, and scores
    10 ln 8 / (delay + 20): 0.0945 at a delay of 200. It is `chance["cross_entropy"]`; the metric is
    the loss without what a model adds to it.

    Args:
      delay: D, the steps from the last symbol to the delimiter.
      curriculum: whether to train on delays uniform from 1 to a longest one that doubles until it is D
        (`longest_delay`), in batches as long as that needs; what is validated and tested always has D.
      curriculum_epochs: epochs until the longest delay is D.

    >>> task = load(batch_size=4, seed=0)
    >>> task.train.element_spec[0].shape, round(task.chance["cross_entropy"], 4)
    (TensorShape([4, 220, 10]), 0.0945)
    """

    def draw(count, key, epoch):
        if epoch is None or not curriculum:
            return sequences(count, delay, key)
        longest = longest_delay(delay, epoch, curriculum_epochs)
        drawn = tf.random.stateless_uniform([count], tf.random.fold_in(key, 1), 1, longest + 1, tf.int32)
        return sequences(count, longest, key, drawn)

    steps = delay + 2 * RECALL
    metric = keras.metrics.SparseCategoricalCrossentropy("cross_entropy", from_logits=True)
    return Task(name="copy_memory", **generated.splits(draw, draw, batch_size, seed, steps_per_epoch),
                features=SYMBOLS + 2, length=None if curriculum else steps,
                outputs=SYMBOLS + 1, return_sequences=True,
                loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
                metrics=[RecallAccuracy(), metric], monitor="val_cross_entropy",
                chance={"accuracy": 1 / SYMBOLS, "cross_entropy": RECALL * math.log(SYMBOLS) / steps})
