"""What is computed of a whole batch whose rows are spread over several replicas, a process each.

A layer does not know where it runs. It asks here for totals and means over all rows of the batch. With one
replica they are those of its own rows, and cost nothing.
"""

import contextlib
import contextvars

import tensorflow as tf

from santm_tf.gradients import custom_gradient

_sharing = contextvars.ContextVar("sharing", default=None)  # the `Replicas`, while they share a step


class Replicas:
    """Processes that share every batch, and which of them this one is.

    Args:
      strategy: a `tf.distribute.MultiWorkerMirroredStrategy` with one device a process.
      index: of this process, from 0.

    Attributes:
      count: of the processes. rows: of the whole batch, while they share a step.
    """

    def __init__(self, strategy, index):
        self._strategy, self.index, self.count = strategy, index, strategy.num_replicas_in_sync
        self.rows = None
        self._at_once = tf.function(self._sum, autograph=False)

    @contextlib.contextmanager
    def sharing(self, rows):
        """What is traced within belongs to a step that all replicas take.

        Args:
          rows: how many of the batch are here, int32.
        """
        self.rows = self.sum([rows])[0]
        token = _sharing.set(self)
        try:
            yield
        finally:
            _sharing.reset(token)
            self.rows = None

    def sum(self, tensors):
        """The sum of each tensor over the replicas, in one exchange for each type of number.

        All replicas must ask for the same sums in the same order. There is no gradient.
        """
        return self._at_once(tensors) if tf.executing_eagerly() else self._sum(tensors)

    def _sum(self, tensors):
        tensors = [tf.convert_to_tensor(v) for v in tensors]
        sums = [None] * len(tensors)
        for dtype in dict.fromkeys(v.dtype for v in tensors):
            places = [i for i, v in enumerate(tensors) if v.dtype == dtype]
            flat = tf.concat([tf.reshape(tensors[i], [-1]) for i in places], 0)
            flat = self._strategy.run(_all_reduced, args=(flat,))
            parts = tf.split(flat, tf.stack([tf.size(tensors[i]) for i in places]), num=len(places))
            for i, part in zip(places, parts, strict=True):
                sums[i] = tf.ensure_shape(tf.reshape(part, tf.shape(tensors[i])), tensors[i].shape)
        return sums


def _all_reduced(value):
    # As an operation of its own, which has a device.
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(value))


def total(*tensors):
    """The sum of each tensor over the replicas; one alone is given back as itself.

    The gradient is for what a layer adds to the loss: that all replicas compute from the same totals, and the
    model counts it once.

    >>> float(total(tf.constant(2.0)))
    2.0
    """
    replicas = _sharing.get()
    if replicas is not None:
        @custom_gradient
        def summed(*tensors):
            return replicas.sum(tensors), lambda *upstream: [replicas.count * d for d in upstream]

        tensors = summed(*tensors)
    return tensors if len(tensors) > 1 else tensors[0]


def mean(x, of_none=0.0):
    """The mean of all numbers of x, on all replicas; `of_none` where there are none.

    >>> float(mean(tf.constant([1.0, 2.0]))), float(mean(tf.zeros([0])))
    (1.5, 0.0)
    """
    if _sharing.get() is None:
        return tf.where(tf.size(x) > 0, tf.reduce_mean(x), tf.cast(of_none, x.dtype))
    whole, count = total(tf.reduce_sum(x), tf.cast(tf.size(x), x.dtype))
    return tf.where(count > 0, tf.math.divide_no_nan(whole, count), tf.cast(of_none, x.dtype))


def own_rows(draw, rows):
    """This replica's rows of what is drawn for all rows of the batch.

    Args:
      draw: from a number of rows to a tensor of so many.
      rows: how many are here.

    >>> own_rows(tf.range, 3).numpy().tolist()
    [0, 1, 2]
    """
    replicas = _sharing.get()
    if replicas is None:
        return draw(rows)
    first = replicas.index * replicas.rows // replicas.count
    own = draw(replicas.rows)[first:first + rows]
    return tf.ensure_shape(own, [rows if isinstance(rows, int) else None, *own.shape[1:]])
