"""Random numbers and weights, always the same ones."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import tasks
from santm_tf.keras import VERSION, several
from santm_tf.tasks.errors import TaskError

in_keras_3_alone = pytest.mark.skipif(VERSION == 2, reason="takes long, and does not depend on Keras")
keras_2_alone = pytest.mark.skipif(VERSION != 2, reason="what it compares with is written for Keras 2")


def random(*shape, seed=0):
    """Standard normal numbers, float64."""
    return np.random.default_rng(seed).normal(size=shape)


def randomise(weights, scale=1.0, seed=0, masks=True):
    """Gives each weight random numbers of a seed of its own, from `seed` on; masks only if asked to."""
    for i, w in enumerate(weights):
        if masks or not w.name.split("/")[-1].startswith(("scores", "log_alpha")):
            w.assign(scale * random(*w.shape, seed=seed + i))


def draw(weights, scale=1.0, seed=1):
    """Gives the weights random numbers of one stream, in their order."""
    rng = np.random.default_rng(seed)
    for w in weights:
        w.assign(scale * rng.normal(size=w.shape))


def name_of(weight):
    """A weight's name below its layer's: `bottom/kernel`."""
    path = getattr(weight, "path", None)  # of Keras 3, whose names are short
    return path.split("/", 1)[-1] if path else weight.name.removesuffix(":0")


def held(valid, new, old):
    return tf.where(tf.reshape(valid, [-1] + [1] * (new.shape.rank - 1)), new, old)


class Looped:
    """The equation of `Recurrent`, step by step in Python, for what Keras 3's RNN does not take."""

    def __init__(self, cell, return_sequences=False, return_state=False, dtype=None):
        self.cell, self.return_sequences, self.return_state = cell, return_sequences, return_state

    @property
    def trainable_weights(self):
        return self.cell.trainable_weights

    def build(self, shape):
        one = not isinstance(shape[0], (list, tuple, tf.TensorShape))
        shapes = [(batch, *rest) for batch, _, *rest in ([shape] if one else shape)]
        self.cell.build(shapes[0] if one else shapes)

    def set_weights(self, weights):
        self.cell.set_weights(weights)

    def get_weights(self):
        return self.cell.get_weights()

    def __call__(self, x, mask=None, initial_state=None, **constants):
        batch, steps = tf.nest.flatten(x)[0].shape[:2]
        dtype = tf.nest.flatten(x)[0].dtype
        state = initial_state or [tf.zeros([batch, *tf.TensorShape(n)], dtype)
                                  for n in tf.nest.flatten(self.cell.state_size)]
        outputs = []
        for t in range(steps):
            y, new = self.cell(tf.nest.map_structure(lambda v: v[:, t], x), state, **constants)  # noqa: B023
            if mask is not None:
                before = outputs[-1] if outputs else tf.nest.map_structure(tf.zeros_like, y)
                y, new = (tf.nest.map_structure(lambda a, b: held(mask[:, t], a, b), *pair)  # noqa: B023
                          for pair in ((y, before), (list(new), list(state))))
            outputs.append(y)
            state = list(new)
        result = outputs[-1]
        if self.return_sequences:
            result = tf.nest.map_structure(lambda *ys: tf.stack(ys, 1), *outputs)
        return several(result, *state) if self.return_state else result


def task_refused(name, **given):
    """The one line that refuses to load a task."""
    with pytest.raises(TaskError) as error:
        tasks.load(name, **{"batch_size": 2, "seed": 0} | given)
    assert "\n" not in str(error.value)
    return str(error.value)
