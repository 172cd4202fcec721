"""A model whose batches are spread over several processes, which trains as one does that has them whole."""

import contextlib
import itertools

import tensorflow as tf

from santm_tf.keras import keras
from santm_tf.masks import mask_of


class SharedModel(keras.Sequential):
    """A `Sequential` model, a copy of it in each of several processes; each `fit` has its rows of a batch.

    Keras' own train step runs, but what it adds up it adds up over all rows: `loss = sum_r (n_r / n) l_r`,
    n_r what replica r's mean l_r is over (rows, or unmasked steps), n the sum of them. What layers add to the
    loss they compute of all rows themselves, by `santm_tf.replicas`, and it counts once. All replicas get the
    same sums of gradients, so that their weights stay the same, bit for bit. Metrics hold the sums over
    all rows.

    The variables are plain ones, a process each. So layers, callbacks and checkpoints are those of a model
    in one process.

    Args:
      layers: see `keras.Sequential`. replicas: `santm_tf.replicas.Replicas`.
    """

    def __init__(self, layers, replicas):
        super().__init__(layers)
        self.replicas, self.asked, self.agreed = replicas, Wishes(), Wishes()

    def train_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with self._step(x) as sums:
            with tf.GradientTape() as tape:
                y_pred = self(x, training=True)
                loss = self._loss_here(y, y_pred, weight)
            gradients = tape.gradient(loss, self.trainable_weights)
            there = [gradient is not None for gradient in gradients]
            self._score(sums, y, y_pred, weight)
            loss, *added = self._added(sums, [loss, *itertools.compress(gradients, there)])
            gradients = [added.pop(0) if has else None for has in there]
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            return self._figures(loss)

    def test_step(self, data):
        x, y, weight = keras.utils.unpack_x_y_sample_weight(data)
        with self._step(x) as sums:
            y_pred = self(x, training=False)
            loss = self._loss_here(y, y_pred, weight)
            self._score(sums, y, y_pred, weight)
            loss, = self._added(sums, [loss])
            return self._figures(loss)

    @contextlib.contextmanager
    def _step(self, x):
        with self.replicas.sharing(tf.shape(x)[0]):
            yield self._begun({})

    def _loss_here(self, y, y_pred, weight):
        """This replica's part of the loss: the parts add up to the whole."""
        loss, mask = self._compile_loss(y, y_pred, weight), mask_of(y_pred, None)
        count = tf.shape(y_pred)[0] if mask is None else tf.reduce_sum(tf.cast(mask, tf.int32))
        count = tf.cast(count, loss.dtype)
        share = tf.math.divide_no_nan(count, self.replicas.sum([count])[0])
        return tf.add_n([share * loss, *(own / self.replicas.count for own in self.losses)])

    def _begun(self, sums):
        """Sets metrics to 0 that are not yet among the sums, and notes there what they were."""
        for metric in self.metrics:
            for variable in metric.variables * (metric is not self._loss_tracker):
                if variable.path not in sums:
                    sums[variable.path] = variable, tf.identity(variable)
                    variable.assign(tf.zeros_like(variable))
        return sums

    def _score(self, sums, y, y_pred, weight):
        if not self._compile_metrics.built:  # its variables come with the first batch
            self._compile_metrics.build(y, y_pred)
            self._begun(sums)
        self._compile_metrics.update_state(y, y_pred, weight)

    def _added(self, sums, tensors):
        """Adds up over the replicas: tensors, which it gives, the metrics, and what is asked for."""
        found = [tf.convert_to_tensor(variable) for variable, _ in sums.values()]
        *tensors, asked = self.replicas.sum([*tensors, *found, self.asked.variable])
        self.agreed.variable.assign(asked)
        for (variable, before), more in zip(sums.values(), tensors[len(tensors) - len(sums):], strict=True):
            variable.assign(before + more)
        return tensors[:len(tensors) - len(sums)]

    def _figures(self, loss):
        self._loss_tracker.update_state(loss, sample_weight=self.replicas.rows)
        return self.get_metrics_result()


class Wishes:
    """What processes ask of all, told with a step's sums: to `stop`, and to `save`.

    >>> wishes = Wishes()
    >>> wishes.stop, wishes.save = False, True
    >>> wishes.stop, wishes.save
    (False, True)
    """

    def __init__(self):
        with tf.init_scope():
            self.variable = tf.Variable(tf.zeros([2]), trainable=False)

    def _of(place):
        def get(self):
            return bool(self.variable.numpy()[place] > 0)

        def set(self, wish):
            self.variable[place].assign(float(wish))

        return property(get, set)

    stop, save = _of(0), _of(1)
