"""What tasks of stored examples share: splits of the examples' numbers."""

import tensorflow as tf

from santm_tf.tasks.errors import TaskError
from santm_tf.tasks.task import by_epoch


def splits(name, show, train, validation, test, *, seed, batch_size, noun="sequences", passes=1):
    """Training examples in another order in each epoch, those of validation and test always in the same.

    Args:
      name: the task's, for errors; noun: what an example is.
      show: from an epoch's key int64 `[2]`, or None outside training, to a function from examples' numbers
        `[b]` to their batch.
      train, validation, test: numbers of examples.
      seed: decides the order, with the epoch. batch_size: examples in a batch.
      passes: over the training examples in an epoch.

    Returns:
      The fields of `by_epoch`.

    Raises:
      TaskError: a batch takes more than there are.

    >>> parts = splits("", lambda key: lambda i: (i, 2 * i), [0, 1, 2], [3], [4], seed=0, batch_size=2)
    >>> parts["steps_per_epoch"], [y.tolist() for _, y in parts["test"].as_numpy_iterator()]
    (1, [[8]])
    """
    enough(name, batch_size, len(train), noun)

    def batches(numbers, key=None, **options):
        return tf.data.Dataset.from_tensor_slices(numbers).batch(batch_size, **options).map(show(key))

    def once(number):
        key = [tf.cast(seed, tf.int64), number]
        return batches(tf.random.experimental.stateless_shuffle(tf.constant(train), key), key,
                       drop_remainder=True)

    def shuffled(epoch):
        return once(epoch) if passes == 1 else tf.data.Dataset.range(
            passes * epoch, passes * (epoch + 1)).flat_map(once)

    return by_epoch(shuffled, passes * (len(train) // batch_size), batches(validation).prefetch(2),
                    batches(test).prefetch(2))


def enough(name, batch_size, count, noun="sequences"):
    """Refuses a batch of more than the training examples."""
    if batch_size > count:
        raise TaskError(f"--batch_size={batch_size}: --task={name} has {count} training {noun}, use at most "
                        f"{count}")
