"""sparsemax: the nearest weights, by the conditions that say so, and tensorflow-addons'."""

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

from santm_tf.addons import addons
from santm_tf.sparse.sparsemax import projected, sparsemax

logits = st.lists(st.floats(-50, 50, width=32), min_size=1, max_size=9)


@hypothesis.given(logits)
def test_no_weights_are_nearer(z):
    """Karush, Kuhn and Tucker: z - p is tau where p > 0, and at most tau elsewhere."""
    p = projected(tf.constant([z], tf.float64))[0].numpy()
    assert np.all(p >= 0) and np.sum(p) == pytest.approx(1)
    rest = np.array(z) - p
    tau = rest[p > 0]
    np.testing.assert_allclose(tau, tau[0], atol=1e-9)
    assert np.all(rest <= tau[0] + 1e-9)


@pytest.mark.skipif(addons() is None, reason="tensorflow-addons cannot be imported")
def test_it_is_that_of_addons_with_its_gradient():
    z = tf.constant(np.random.default_rng(0).normal(size=[20, 6]) * 2, tf.float32)

    def both(function):
        with tf.GradientTape() as tape:
            tape.watch(z)
            p = function(z)
            loss = tf.reduce_sum(tf.sin(7 * p))
        return p, tape.gradient(loss, z)

    for ours, theirs in zip(both(projected), both(sparsemax), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
