"""What a layer's controller and memory keep: the two factors of `santm_tf.capacity`, from its weights."""

import numpy as np
import tensorflow as tf

from santm_tf.errors import ArgumentError
from santm_tf.visits import Keep

# A share of the state below this is lost as it is added in float32.
_FLOOR = float(np.finfo(np.float32).eps)


def controller_retention(layer, x):
    """lambda, the share of what it holds that the controller between two accesses keeps in a step.

    `g(d) = mean_b || d (v_b . s_T) / d x_{T-d} ||`,  `lambda = min(1, exp(slope of log g(d) over d))`

    s_T is the state (h and c) of the middle level after the last step, v_b a random unit vector for each
    sequence, always the same ones. The bottom level lies between x and s, so that the two levels count
    as one controller; boundaries are differentiated straight-through, as in training.

    The slope is that of the least-squares line through all d from 0 to T - 1 at which g is above
    1.2e-7 of its largest (float32's epsilon): the mean decay per step over the distances across which
    the controller holds anything. It is exact where the decay is geometric. A controller that keeps
    little over the first steps and a trace of it for long has a slope between the two, nearer the latter
    the longer the sequence. A growing gradient counts as nothing lost, and one that is below the floor
    after a step as everything.

    Args:
      layer: a built `SANTM`.
      x: what the layer takes, `[B, T, d]`, with T >= 2 and no padded step.

    Returns:
      lambda, a float in [0, 1].

    Raises:
      ValueError: the layer is not built, or T < 2.

    >>> from santm_tf import SANTM
    >>> layer, x = SANTM(8, memory_slots=4, slot_width=8), tf.random.stateless_normal([2, 12, 3], [0, 0])
    >>> y = layer(x)
    >>> 0 < controller_retention(layer, x) <= 1
    True
    """
    x, levels = _input(layer, x), layer.levels
    if x.shape[1] < 2:
        raise ArgumentError(f"controller_retention: x has {x.shape[1]} step; a decay needs at least 2")
    with tf.GradientTape() as tape:
        tape.watch(x)
        _, state = levels.middle_of(*levels.bottom_of(x)[0], training=True, explored=1)
        state = tf.concat(state, -1)
        direction = tf.random.stateless_normal(tf.shape(state), [0, 0], dtype=state.dtype)
        seen = tf.reduce_sum(state * tf.math.l2_normalize(direction, -1))
    decay = np.linalg.norm(np.float64(tape.gradient(seen, x)), axis=-1).mean(0)[::-1]
    distance = np.flatnonzero(decay > _FLOOR * decay.max())
    if len(distance) < 2:
        return 0.0
    slope, _ = np.polyfit(distance, np.log(decay[distance]), 1)
    return min(1.0, float(np.exp(slope)))


def memory_retention(layer, x):
    """mu, the share of a slot's content that a write leaves.

    `mu = mean of prod_h (1 - a_t w_thj e_thk)` over the accessed steps t, the sequences, the slots j and
    their columns k

    w and e are the weights and the erase vector of write head h, and the access mask a is 1 unless its
    gates are hard-concrete. As a head's weights sum to 1, one head leaves `1 - mean(e) / N`: a
    memory of N slots that erases what it writes on keeps 1 - 1/N of the whole in a write, as in
    `santm_tf.capacity`, and any layer keeps as much as such a one of `1 / (1 - mu)` slots.

    Args:
      layer: a built `SANTM`.
      x: what the layer takes, `[B, T, d]`, without padded steps.

    Returns:
      mu, a float in [0, 1].

    Raises:
      ValueError: the layer is not built, or its mask accesses no step of x.

    >>> from santm_tf import SANTM
    >>> layer = SANTM(8, memory_slots=4, slot_width=8)
    >>> y = layer(tf.zeros([2, 12, 3]))
    >>> 3 / 4 < memory_retention(layer, tf.zeros([2, 12, 3])) < 1
    True
    """
    x, levels = _input(layer, x), layer.levels
    _, inside = plan = layer.access.shortest_plan(x.shape[1])
    if not inside[0]:
        raise ArgumentError(f"memory_retention: the access mask is off at all {x.shape[1]} steps of x")
    did = levels.run(x, plan, keep=Keep(every=False, heads=True))
    return float(tf.reduce_mean(did.visits.heads.left))


def _input(layer, x):
    if not layer.built:
        raise ArgumentError("retention: build the layer before asking what it keeps")
    return tf.cast(x, layer.compute_dtype)
