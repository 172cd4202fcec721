"""The slot graph, products with matrices on it and the Chebyshev recursion, against NumPy and spektral."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import reference
import tensorflow as tf

from santm_tf.graph import chebyshev, diagonals, ring, symmetric
from tests.helpers import keras_2_alone

sizes = {"slots": st.integers(2, 20), "locality": st.integers(1, 25)}
few = hypothesis.settings(max_examples=40, deadline=None)


def dense(sparse):
    return tf.sparse.to_dense(sparse).numpy()


def laplacian_of_a_graph(slots=7, seed=0):
    """spektral's rescaled Laplacian of a random weighted graph."""
    from spektral.utils.convolution import normalized_laplacian, rescale_laplacian

    a = np.random.default_rng(seed).random([slots, slots])
    a = np.triu(a, 1) * (np.triu(a, 1) < 0.6) + np.eye(slots, k=1)
    return rescale_laplacian(normalized_laplacian((a + a.T).astype(np.float32)), lmax=2)


@few
@hypothesis.given(**sizes)
def test_ring_joins_the_slots_within_reach(slots, locality):
    graph = ring(slots, locality)
    np.testing.assert_array_equal(dense(graph), reference.neighbours(slots, locality))
    np.testing.assert_array_equal(graph.indices, tf.sparse.reorder(graph).indices)


@pytest.mark.parametrize(("slots", "locality", "named"), [(1, 1, "slots=1"), (4, 0, "locality=0")])
def test_ring_names_a_bad_size(slots, locality, named):
    with pytest.raises(ValueError, match=named):
        ring(slots, locality)


def on_a_ring(values):
    """The symmetric matrix `[N, N]` that has diagonals `[N, w]` above its main one."""
    slots, locality = values.shape
    above = np.zeros([slots, slots])
    for n in range(locality):
        above[np.arange(slots), (np.arange(slots) + n + 1) % slots] = values[:, n]
    return above + above.T


@few
@hypothesis.given(locality=st.integers(1, 5), spare=st.integers(1, 9), seed=st.integers(0, 99))
def test_products_on_a_ring_match_numpy(locality, spare, seed):
    slots, rng = 2 * locality + spare, np.random.default_rng(seed)
    values = rng.normal(size=[2, 3, slots, locality])
    x, other = rng.normal(size=[2, 2, 3, slots, 4])
    ours, inner = symmetric(tf.constant(values))(tf.constant(x)), diagonals(x, other, locality)
    for at in np.ndindex(2, 3):
        np.testing.assert_allclose(ours[at], on_a_ring(values[at]) @ x[at], atol=1e-12)
        whole = x[at] @ other[at].T
        for n in range(locality):
            expected = [whole[i, (i + n + 1) % slots] for i in range(slots)]
            np.testing.assert_allclose(inner[at][:, n], expected, atol=1e-12)


def test_gradients_of_products_on_a_ring_match_finite_differences():
    rng = np.random.default_rng(0)
    values, x, other = (tf.constant(rng.normal(size=[2, 7, n])) for n in (2, 3, 3))
    for function, arguments in ((lambda a, x: symmetric(a)(x), [values, x]),
                                (lambda u, v: diagonals(u, v, 2), [x, other])):
        for exact, numeric in zip(*tf.test.compute_gradient(function, arguments), strict=True):
            np.testing.assert_allclose(exact, numeric, atol=1e-8)


@pytest.mark.parametrize("order", range(1, 8))
def test_chebyshev_matches_numpy_on_the_eigenvalues(order):
    laplacian = laplacian_of_a_graph().astype(np.float64)
    values, vectors = np.linalg.eigh(laplacian)
    laplacian = vectors * values @ vectors.T
    signal = np.random.default_rng(1).normal(size=[7, 3])
    terms = chebyshev(lambda x: laplacian @ x, signal, order)
    assert len(terms) == order
    for k, term in enumerate(terms):
        spectrum = np.polynomial.Chebyshev.basis(k)(values)
        np.testing.assert_allclose(term, vectors * spectrum @ vectors.T @ signal, atol=1e-12)


@keras_2_alone
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_filter_matches_spektrals_chebconv(order):
    from spektral.layers import ChebConv

    laplacian = laplacian_of_a_graph()
    signal = np.random.default_rng(1).normal(size=[7, 3]).astype(np.float32)
    layer = ChebConv(4, order, use_bias=False)
    theirs = layer([signal, laplacian])
    theta = layer.get_weights()[0]
    ours = sum(t @ w for t, w in zip(chebyshev(lambda x: laplacian @ x, signal, order), theta,
                                     strict=True))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
