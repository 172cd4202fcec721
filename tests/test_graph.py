"""The slot graph, its Laplacian and the Chebyshev recursion, against NumPy and spektral."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import reference
import tensorflow as tf

from santm_tf.graph import chebyshev, rescaled_laplacian, ring

sizes = {"slots": st.integers(2, 20), "locality": st.integers(1, 25)}
few = hypothesis.settings(max_examples=40, deadline=None)


def dense(sparse):
    return tf.sparse.to_dense(sparse).numpy()


def symmetric_graph(slots=7, seed=0):
    """A random weighted graph, as `tf.sparse`."""
    a = np.random.default_rng(seed).random([slots, slots])
    a = np.triu(a, 1) * (np.triu(a, 1) < 0.6) + np.eye(slots, k=1)
    return tf.sparse.from_dense((a + a.T).astype(np.float32))


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


@few
@hypothesis.given(**sizes)
def test_laplacian_of_a_ring_matches_spektral(slots, locality):
    from spektral.utils.convolution import normalized_laplacian, rescale_laplacian

    a = dense(ring(slots, locality))
    theirs = rescale_laplacian(normalized_laplacian(a), lmax=2)
    ours = rescaled_laplacian(ring(slots, locality))
    np.testing.assert_allclose(dense(ours), theirs, atol=1e-6)
    degree = a.sum(1)
    np.testing.assert_allclose(dense(ours), -a / np.sqrt(np.outer(degree, degree)), atol=1e-6)


@pytest.mark.parametrize("largest", [2.0, 1.5])
def test_laplacian_of_a_weighted_graph_matches_spektral(largest):
    from spektral.utils.convolution import normalized_laplacian, rescale_laplacian

    graph = symmetric_graph()
    theirs = rescale_laplacian(normalized_laplacian(dense(graph)), lmax=largest)
    np.testing.assert_allclose(dense(rescaled_laplacian(graph, largest)), theirs, atol=1e-6)


@few
@hypothesis.given(**sizes)
def test_the_spectrum_of_the_laplacian_is_within_one(slots, locality):
    eigenvalues = np.linalg.eigvalsh(dense(rescaled_laplacian(ring(slots, locality))))
    assert abs(eigenvalues).max() <= 1 + 1e-6


@pytest.mark.parametrize("order", range(1, 8))
def test_chebyshev_matches_numpy_on_the_eigenvalues(order):
    laplacian = dense(rescaled_laplacian(symmetric_graph())).astype(np.float64)
    values, vectors = np.linalg.eigh(laplacian)
    laplacian = vectors * values @ vectors.T
    signal = np.random.default_rng(1).normal(size=[7, 3])
    terms = chebyshev(lambda x: laplacian @ x, signal, order)
    assert len(terms) == order
    for k, term in enumerate(terms):
        spectrum = np.polynomial.Chebyshev.basis(k)(values)
        np.testing.assert_allclose(term, vectors * spectrum @ vectors.T @ signal, atol=1e-12)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_filter_matches_spektrals_chebconv(order):
    from spektral.layers import ChebConv

    laplacian = dense(rescaled_laplacian(symmetric_graph()))
    signal = np.random.default_rng(1).normal(size=[7, 3]).astype(np.float32)
    layer = ChebConv(4, order, use_bias=False)
    theirs = layer([signal, laplacian])
    theta = layer.get_weights()[0]
    ours = sum(t @ w for t, w in zip(chebyshev(lambda x: laplacian @ x, signal, order), theta,
                                     strict=True))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
