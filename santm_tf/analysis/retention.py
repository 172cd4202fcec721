"""What a layer's controller and memory keep: the two factors of `santm_tf.capacity`, from its weights."""

import numpy as np
import tensorflow as tf

from santm_tf.analysis.precision import as_in
from santm_tf.errors import ArgumentError
from santm_tf.ops import at_least_float32
from santm_tf.santm import SANTM
from santm_tf.visits import Keep

# A share of the state below this is lost as it is added in float32.
_FLOOR = float(np.finfo(np.float32).eps)


def controller_retention(layer: SANTM, x: tf.Tensor) -> float:
    """lambda, the share of what it holds that the controller between two accesses keeps in a step.

    `lambda = min(1, exp(slope over n of log mean_B of the norm of d(xi . [h^m_T ; c^m_T]) / dx_{T-n}))`

    xi is a random unit vector for each sequence, always the same ones. The bottom level lies between x and
    h^m, so the two levels count as one controller. Boundaries are differentiated straight-through, as in
    training. The slope is that of the least-squares line through all n from 0 to T - 1 at which the norm is
    above 1.2e-7 of its largest (float32's epsilon). It is exact where the decay is geometric. Where first
    steps decay fast and later ones slowly it lies between. A growing gradient counts as nothing lost, and one
    below that floor after a step as everything.

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

    def last(x):
        _, state = levels.middle_of(*levels.bottom_of(x)[0], training=True, explored=1)
        return tf.concat(state, -1)

    with tf.GradientTape() as tape:
        tape.watch(x)
        state = as_in(layer, last, x)
        direction = tf.random.stateless_normal(tf.shape(state), [0, 0], dtype=state.dtype)
        seen = tf.reduce_sum(state * tf.math.l2_normalize(direction, -1))
    decay = np.linalg.norm(np.float64(tape.gradient(seen, x)), axis=-1).mean(0)[::-1]
    distance = np.flatnonzero(decay > _FLOOR * decay.max())
    if len(distance) < 2:
        return 0.0
    slope, _ = np.polyfit(distance, np.log(decay[distance]), 1)
    return min(1.0, float(np.exp(slope)))


def memory_retention(layer: SANTM, x: tf.Tensor) -> float:
    """mu, the share of a slot's content that a write leaves.

    `mu = mean of prod (1 - a_t w^w_i e)` over the write heads, the mean over accesses, slots and columns

    As a head's weights sum to 1, one head leaves `1 - mean(e) / N`. A memory of N slots that erases what it
    writes on keeps 1 - 1/N in a write, as in `santm_tf.capacity`. Any layer keeps as much as such a memory of
    `1 / (1 - mu)` slots.

    Args:
      layer, x: see `controller_retention`; T >= 1.

    Returns:
      mu, a float in [0, 1].

    Raises:
      ValueError: the layer is not built, or it accesses no step of x.

    >>> from santm_tf import SANTM
    >>> layer, x = SANTM(8, memory_slots=4, slot_width=8), tf.zeros([2, 12, 3])
    >>> y = layer(x)
    >>> 3 / 4 < memory_retention(layer, x) < 1
    True
    """
    x, levels = _input(layer, x), layer.levels
    plan = layer.access.shortest_plan(x.shape[1])
    did = as_in(layer, lambda x: levels.run(x, plan, keep=Keep(every=False, heads=True)), x)
    left = tf.boolean_mask(at_least_float32(did.visits.heads.left), did.a[..., 0] > 0)
    if not len(left):
        raise ArgumentError(f"memory_retention: the access is off at all {x.shape[1]} steps of x")
    return float(tf.reduce_mean(left))


def _input(layer, x):
    if not layer.built:
        raise ArgumentError("retention: build the layer before asking what it keeps")
    x = tf.cast(x, layer.compute_dtype)
    return tf.reverse(x, [1]) if layer.go_backwards else x
