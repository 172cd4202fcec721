"""The hard-concrete gate, and the Lagrangian that holds how often gates open."""

import math

import tensorflow as tf

from santm_tf.ops import sigmoid

TEMPERATURE, BELOW, ABOVE = 2 / 3, -0.1, 1.1  # Louizos et al. 2018, section 3: their beta, gamma, zeta
SHUT = math.log(-BELOW / ABOVE)  # the location up to which a gate at rest is 0


def location_of(rate):
    """The location of gates of which so many are open, a float; at a rate of 1 nearly all.

    >>> round(float(chance(location_of(0.25))), 3)
    0.25
    """
    rate = min(rate, 0.99)
    return math.log(rate / (1 - rate)) + TEMPERATURE * SHUT


def noise(shape, key):
    """`log xi - log(1 - xi)`, `xi ~ U(0, 1)`: what moves locations while training. key: int `[2]`."""
    xi = tf.random.stateless_uniform(shape, key, 1e-6, 1 - 1e-6)
    return tf.math.log(xi) - tf.math.log1p(-xi)


def gate(location, moved=None):
    """A gate of exactly 0, exactly 1 or between (Louizos et al. 2018, arXiv 1712.01312, equations 10 to 13).

    `a = min(1, max(0, 1.2 sigmoid((s + noise) / (2/3)) - 0.1))`, at rest `sigmoid(s)` for the sigmoid

    Args:
      location: s, float32. moved: `noise` of its shape; None at rest.

    >>> gate(tf.constant([-3.0, 0.0, 3.0])).numpy().tolist()
    [0.0, 0.5, 1.0]
    """
    location = location if moved is None else (location + moved) / TEMPERATURE
    return tf.clip_by_value(sigmoid(location) * (ABOVE - BELOW) + BELOW, 0.0, 1.0)


def chance(location):
    """`Pr(a > 0) = sigmoid(s - (2/3) log(0.1 / 1.1))`, of a gate that is drawn."""
    return sigmoid(location - TEMPERATURE * SHUT)


def lagrangian(multiplier, excess):
    """0, with the gradient of `nu excess` to what the excess comes from, and its opposite to nu.

    A descent then lowers the excess at the price nu, and nu, to be kept at 0 or above, climbs as long as
    there is any.
    """
    held = tf.stop_gradient
    return held(multiplier) * (excess - held(excess)) - (multiplier - held(multiplier)) * held(excess)
