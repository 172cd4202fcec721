"""The associative recall task of Graves et al. 2014, arXiv 1410.5401, section 4.3."""

import functools
from typing import Annotated

import tensorflow as tf

from santm_tf.tasks import generated
from santm_tf.tasks.generated import PADDING, pick, random_bits
from santm_tf.tasks.task import Scale


def sequences(items, max_items, bits, key, item_vectors=3):
    """Items of v random bit vectors, then one of them again: the answer is the item after it.

    A sequence of n items takes (v + 1) (n + 2) steps: n times an item's delimiter and its v vectors;
    the queried item's v vectors between two delimiters of another kind; v blank steps at which the
    vectors of the item that followed the queried one are the target. What follows is padding.

    The query is uniform over all items but the last. It is never ambiguous: an item that equals the queried
    one is inverted (with 6 items of 18 bits in one of 52,000 sequences; with 10,000 items in one of 26).

    Args:
      items: n of each sequence, int32 `[B]`, from 2 to `max_items`.
      max_items: int; sets T = (v + 1) (max_items + 2).
      bits, key: see `copy.sequences`.
      item_vectors: v, how many vectors an item has.

    Returns:
      As in `copy.sequences`; the last two channels of x are the items' and the query's delimiter.

    >>> x, y, weight = sequences([2, 3], max_items=3, bits=6, key=[0, 0])
    >>> x.shape, y.shape
    (TensorShape([2, 20, 8]), TensorShape([2, 20, 6]))
    >>> print(weight.numpy().astype(int))
    [[0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1 0 0 0 0]
     [0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 1 1 1]]
    """
    item_key, query_key = tf.unstack(tf.random.split(key))
    count = tf.convert_to_tensor(items, tf.int32)[:, None]
    batch = tf.shape(count)[0]
    queried = tf.random.stateless_uniform([batch, 1], query_key) * tf.cast(count - 1, tf.float32)
    queried = tf.cast(queried, tf.int32)
    vectors = _unique(random_bits([batch, max_items, item_vectors * bits], item_key), queried)
    vectors = tf.reshape(vectors, [batch, max_items * item_vectors, bits])

    span = item_vectors + 1  # the steps of an item and its delimiter
    step = tf.range(span * (max_items + 2))[None]
    item, place = step // span, step % span
    query = step - span * count  # the steps from the query's first delimiter on
    answer = query - (span + 1)
    index = tf.where(query < 0, item * item_vectors + place - 1, queried * item_vectors + query - 1)
    read = pick(vectors, index, tf.where(query < 0, place > 0, (query > 0) & (query < span)))
    asked = (answer >= 0) & (answer < item_vectors)
    delimiters = [(query < 0) & (place == 0), (query == 0) | (query == span)]

    x = tf.concat([read, tf.cast(tf.stack(delimiters, -1), tf.float32)], -1)
    y = pick(vectors, (queried + 1) * item_vectors + answer, asked)
    return tf.where((answer < item_vectors)[..., None], x, PADDING), y, tf.cast(asked, tf.float32)


def _unique(items, queried):
    """The items `[B, N, bits]` with those inverted that equal the queried one, `[B, 1]`."""
    same = tf.reduce_all(items == tf.gather(items, queried, batch_dims=1), -1)
    same &= tf.range(tf.shape(items)[1]) != queried
    return tf.where(same[..., None], 1 - items, items)


def load(batch_size, seed, min_items: Annotated[int, "[2, inf)"] = 2,
         max_items: Annotated[int, "[2, inf)"] = 6, test_items: Annotated[int, "[2, inf)"] | None = None,
         test_sequences: int = 320, item_vectors: int = 3, bits: int = 6, steps_per_epoch: int = 200,
         curriculum: bool = False, curriculum_epochs: int = 10):
    """Recalling the item that followed: 2 to 6 items in training and validation, as in the paper.

    Guessing scores log(2) v / ((v + 1) (n + 2)) by the loss of `generated.bit_task`, n items having v
    vectors each.

    Args:
      min_items: fewest items in a sequence, in training and validation.
      max_items: most items in a sequence there. Counts are uniform between the two.
      test_items: items in every test sequence, `max_items` by default.
      test_sequences: sequences in the test split.
      item_vectors: vectors of an item.
      curriculum: whether the most items in training rise, see `generated.Lengths`.
      curriculum_epochs: epochs until they are `max_items`.

    The others are those of `copy.load`.

    Raises:
      TaskError: `max_items` is below `min_items`.

    >>> task = load(batch_size=4, seed=0, test_items=10)
    >>> [part.element_spec[0].shape for part in (task.train, task.test)]
    [TensorShape([4, 32, 8]), TensorShape([4, 48, 8])]
    >>> load(batch_size=4, seed=0, item_vectors=1, bits=24).train.element_spec[0].shape
    TensorShape([4, 16, 26])
    """
    items = generated.lengths("items", min_items, max_items, curriculum, curriculum_epochs)
    generated.countable("associative_recall", (item_vectors + 1) * (max(max_items, test_items or 0) + 2))
    return generated.bit_task("associative_recall",
                              functools.partial(sequences, bits=bits, item_vectors=item_vectors),
                              [items], [test_items or max_items], batch_size, seed, steps_per_epoch,
                              test_sequences=test_sequences,
                              at_once=16,  # one sequence of 10,000 items takes 2 MB, with 24 bits 4 to 8
                              features=bits + 2, bits=bits, asked=item_vectors,
                              scales=(Scale("test_items", "number of items", max_items, least=2),))
