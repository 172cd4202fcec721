"""Heads that read on: the rows after those that they read last, as a tape is read."""

from typing import NamedTuple

import tensorflow as tf

from santm_tf.packing import at_steps, pack


class Found(NamedTuple):
    """The slots of rows, int32 `[..., k]`, and their weights `[..., k]`."""

    slots: tf.Tensor
    weights: tf.Tensor


def read_on(phi, found, before, slots):
    """What heads read, phi_n being the share of what they find by reading on.

    `r_n = (1 - phi_n) M[i^k_n, w^k_n] + phi_n M[i_{n-1} + 1, w_{n-1}]`
    `(i_n, w_n) = (i^k_n, w^k_n)` where `phi_n <= 1/2`, else `(i_{n-1} + 1, w_{n-1})`

    `(i^k, w^k)` are the slots found by the key, and their weights; `M[i, w]` is the sum of their values. It
    is the shift by one of Graves et al. 2014, arXiv 1410.5401, section 3.3.2. Where a head is follows from
    phi as 0 or 1. So all steps are known at once: a head is as many rows past those that its last key found
    as there are steps between. What is read is weighed, so that the loss tells phi to be sure.

    Args:
      phi: `[B, S, R]`, from 0 to 1.
      found: `Found` by key, `[B, S, R, k]`.
      before: `Found` `[B, R, 2k]` and `[B, R, 2k + 1]`, of the step before the first one, as it is returned.
      slots: N, the number after which slots begin anew.

    Returns:
      `Found`: slots `[B, S, R, 2k]`, those found by key and those after; weights `[B, S, R, 2k + 1]`, phi
      being the last.

    >>> found = Found(tf.constant([[[[7]], [[1]], [[1]], [[4]]]]), tf.ones([1, 4, 1, 1]))
    >>> before = Found(tf.constant([[[2, 0]]]), tf.constant([[[1.0, 0.0, 0.0]]]))
    >>> read = read_on(tf.constant([[[1.0], [0.0], [1.0], [1.0]]]), found, before, slots=10)
    >>> read.slots.numpy()[0, :, 0].tolist()
    [[7, 3], [1, 4], [1, 2], [4, 3]]
    """
    states = Found(*(tf.concat([first[:, None], new], 1)
                     for first, new in zip(_heads(before), found, strict=True)))
    looked, since = (v[:, :-1] for v in _last_look(phi))
    phi = phi[..., None]
    after = (_of_heads(states.slots, looked) + since[..., None] + 1) % slots
    return Found(tf.concat([found.slots, after], -1),
                 tf.concat([(1 - phi) * found.weights, phi * _of_heads(states.weights, looked), phi], -1))


def _heads(read):
    """Where heads are after a step, `Found` `[B, R, k]`, from what they read there."""
    (slots, after), phi = tf.split(read.slots, 2, -1), read.weights[..., -1:]
    weights, weights_after = tf.split(read.weights[..., :-1], 2, -1)
    on = phi > 0.5
    return Found(tf.where(on, after, slots),
                 tf.where(on, weights_after, weights) / tf.where(on, phi, 1 - phi))


def _last_look(phi):
    """Of the state before the first step and of each step: which state last found its rows by a key, from 0
    on, and how many steps ago; int32 `[B, S + 1, R]`."""
    batch, steps, heads = tf.unstack(tf.shape(phi))
    looks = tf.concat([tf.ones([batch * heads, 1], tf.bool),
                       tf.reshape(tf.transpose(phi, [0, 2, 1]), [batch * heads, steps]) <= 0.5], 1)
    order, place = pack(looks)
    last = at_steps(order, place - 1)
    last, since = (tf.transpose(tf.reshape(v, [batch, heads, steps + 1]), [0, 2, 1])
                   for v in (last, tf.range(steps + 1) - last))
    return last, since


def _of_heads(x, steps):
    """Of `[B, S, R, k]` each head at steps of its own, `[B, S, R]`."""
    return tf.transpose(tf.gather(tf.transpose(x, [0, 2, 1, 3]), tf.transpose(steps, [0, 2, 1]), axis=2,
                                  batch_dims=2), [0, 2, 1, 3])
