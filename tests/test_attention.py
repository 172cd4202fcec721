"""ChebAttention against NumPy and spektral; its spectrum, its reach, its three forms."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import reference
import tensorflow as tf

from santm_tf import ChebAttention
from santm_tf.keras import keras
from tests.helpers import keras_2_alone, random

FORMS = ["dense", "banded", "sparse"]
few = hypothesis.settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)


def built(heads=2, order=3, locality=2, form="auto", slots=12, width=6, seed=0, dtype="float64"):
    """A layer with random weights, biases too: the same seed and sizes, the same weights."""
    layer = ChebAttention(heads, order, locality, form=form, dtype=dtype)
    layer.build([None, slots, width])
    layer.set_weights([random(*w.shape, seed=seed + i) / np.sqrt(w.shape[0])
                       for i, w in enumerate(layer.get_weights())])
    return layer


@few
@hypothesis.given(heads=st.sampled_from([1, 2, 3]), order=st.integers(1, 5),
                  locality=st.integers(1, 3), slots=st.integers(7, 14), seed=seeds,
                  form=st.sampled_from(FORMS))
def test_it_matches_numpy(heads, order, locality, slots, seed, form):
    layer = built(heads, order, locality, form, slots, seed=seed)
    memory = random(2, slots, 6, seed=seed)
    for ours, m in zip(layer(tf.constant(memory)), memory, strict=True):
        np.testing.assert_allclose(ours, reference.cheb_attention(layer, m), atol=1e-10)
    for ours, m in zip(layer.attention(memory), memory, strict=True):
        np.testing.assert_allclose(ours, reference.attention_matrices(layer, m)[0], atol=1e-12)


@keras_2_alone
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_its_filter_is_spektrals_chebconv_on_its_own_laplacian(form, order):
    from spektral.layers import ChebConv

    layer = built(1, order, form=form, dtype="float32")
    layer.output_kernel.assign(np.eye(6))
    layer.feed_kernel.assign(np.zeros([6, 6]))
    layer.feed_bias.assign(np.zeros(6))
    memory = random(2, 12, 6).astype(np.float32)
    laplacian = -layer.attention(memory)[:, 0]
    values = memory @ layer.qkv_kernel.numpy()[:, 12:]
    theirs = ChebConv(6, order, use_bias=False)
    theirs([values, laplacian])
    theirs.set_weights([layer.theta.numpy()[:, 0]])
    np.testing.assert_allclose(layer(memory) - memory, theirs([values, laplacian]), atol=1e-4)


@few
@hypothesis.given(heads=st.sampled_from([1, 2, 3]), order=st.integers(1, 5),
                  locality=st.integers(1, 5), spare=st.integers(1, 6), seed=seeds,
                  scale=st.sampled_from([1e-6, 1.0, 1e2, 1e4]))
def test_the_forms_are_equal(heads, order, locality, spare, seed, scale):
    slots = 2 * locality + spare
    memory = tf.constant(scale * random(2, slots, 6, seed=seed))
    dense, *others = (built(heads, order, locality, form, slots, seed=seed)(memory) for form in FORMS)
    for other in others:
        np.testing.assert_allclose(other, dense, rtol=1e-6, atol=1e-6 * scale)


def values_and_gradients(layer, memory):
    with tf.GradientTape() as tape:
        tape.watch(memory)
        y = layer(memory)
        loss = tf.reduce_sum(tf.sin(y))
    return [y, *tape.gradient(loss, [memory, *layer.trainable_weights], unconnected_gradients="zero")]


@few
@hypothesis.given(heads=st.sampled_from([1, 2, 3]), order=st.integers(1, 5), locality=st.integers(1, 5),
                  spare=st.integers(1, 40), batch=st.integers(1, 3), seed=seeds)
def test_tf_sparse_has_the_banded_forms_gradients(heads, order, locality, spare, batch, seed):
    slots = 2 * locality + spare
    memory = tf.constant(random(batch, slots, 6, seed=seed), tf.float32)
    banded, sparse = (
        values_and_gradients(built(heads, order, locality, form, slots, seed=seed, dtype="float32"), memory)
        for form in ("banded", "sparse"))
    for ours, theirs in zip(sparse, banded, strict=True):
        scale = max(1, np.abs(theirs).max())
        np.testing.assert_allclose(ours / scale, theirs / scale, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tape", ["eager", "function", "within"])
def test_compiled_it_is_banded_forward_and_backward(tape):
    """XLA has no kernel for tf.sparse; the gradient may be traced where nobody knows of XLA."""
    layer = built(form="sparse", dtype="float32")
    memory = tf.constant(random(2, 12, 6), tf.float32)

    def gradient(call):
        with tf.GradientTape() as tape:
            tape.watch(memory)
            y = call(memory)
        return [y, *tape.gradient(y, [memory, *layer.trainable_weights])]

    jit = dict(jit_compile=True, autograph=False)
    compiled = {"eager": lambda: gradient(tf.function(layer, **jit)),
                "function": tf.function(lambda: gradient(tf.function(layer, **jit)), autograph=False),
                "within": tf.function(lambda: gradient(layer), **jit)}[tape]
    for ours, theirs in zip(compiled(), gradient(layer), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("form, slots, locality, width, products", [
    ("dense", 12, 2, 6, False), ("banded", 12, 2, 6, False), ("sparse", 12, 2, 6, True),
    ("auto", 200, 8, 6, True), ("auto", 200, 7, 6, False), ("auto", 192, 8, 6, False),
    ("auto", 200, 8, 64, False)])
def test_the_sparse_form_runs_on_tf_sparse(form, slots, locality, width, products):
    layer = built(2, 3, locality, form, slots, width, dtype="float32")
    traced = tf.function(layer, autograph=False).get_concrete_function(tf.TensorSpec([None, slots, width]))
    graph = traced.graph
    assert ("SparseTensorDenseMatMul" in ops(graph.as_graph_def())) == products


def ops(graph):
    return {node.op for part in (graph, *graph.library.function)
            for node in (part.node if part is graph else part.node_def)}


@few
@hypothesis.given(scale=st.sampled_from([0.0, 1.0, 1e2, 1e3, 1e4]), equal=st.booleans(),
                  locality=st.integers(1, 9), slots=st.integers(2, 12), seed=seeds)
def test_attention_is_symmetric_with_its_spectrum_within_one(scale, equal, locality, slots, seed):
    memory = scale * (np.ones([1, slots, 6]) if equal else random(1, slots, 6, seed=seed))
    layer = built(locality=locality, slots=slots, seed=seed, dtype="float32")
    a = layer.attention(memory).numpy().astype(np.float64)[0]
    assert np.all(a >= 0) and np.all(np.isfinite(a))
    assert np.all(a[:, ~reference.neighbours(slots, locality)] == 0)
    np.testing.assert_allclose(a, a.transpose(0, 2, 1), atol=1e-7)
    assert abs(np.linalg.eigvalsh(a)).max() <= 1 + 1e-5
    if equal:  # the graph is regular: every row of A^ sums to 1
        np.testing.assert_allclose(a.sum(-1), 1, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_no_depth_blows_up(form):
    """`||T_k(L~)|| <= 1`, so the filter of identities grows no more than its order."""
    layer = built(1, 40, form=form, dtype="float32")
    layer.theta.assign(tf.eye(6, batch_shape=[40, 1]))
    layer.output_kernel.assign(np.eye(6))
    layer.feed_kernel.assign(np.zeros([6, 6]))
    layer.feed_bias.assign(np.zeros(6))
    memory = 30 * random(3, 12, 6).astype(np.float32)
    values = memory @ layer.qkv_kernel.numpy()[:, 12:]
    norms = np.linalg.norm(layer(memory) - memory, axis=1)
    assert np.all(norms <= 40 * np.linalg.norm(values, axis=1) * (1 + 1e-4))


def reached(layer, memory, feature=slice(None)):
    """The distances at which a change in a slot changes a bit of slot 0's output."""
    before = layer(memory[None])[0, 0].numpy()
    distances = set()
    for slot in range(len(memory)):
        changed = memory.copy()
        changed[slot, feature] += 0.5
        if np.any(layer(changed[None])[0, 0].numpy() != before):
            distances.add(min(slot, len(memory) - slot))
    return distances


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("order", "locality"), [(1, 2), (2, 1), (2, 3), (3, 2), (4, 1), (4, 3)])
def test_a_slot_receives_from_the_slots_within_its_reach_and_no_other(form, order, locality):
    """Through the filter a content travels (K-1) w slots, to the bit.

    Feature 0 is hidden from the queries and keys here, so that the graph stays as it is.
    """
    layer = built(2, order, locality, form, slots=26, dtype="float32")
    kernel = layer.qkv_kernel.numpy()
    kernel[0, :12] = 0
    layer.qkv_kernel.assign(kernel)
    memory = random(26, 6).astype(np.float32)
    assert reached(layer, memory, 0) == set(range((order - 1) * locality + 1))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("order", "locality"), [(1, 2), (2, 1), (2, 3), (3, 2), (4, 1)])
def test_the_graph_itself_depends_on_one_neighbourhood_more(form, order, locality):
    """A^_ij has lse_j in it, over the neighbours of j: K > 1 makes the last ones K w away."""
    layer = built(2, order, locality, form, slots=26, dtype="float32")
    memory = random(26, 6).astype(np.float32)
    reach = order * locality if order > 1 else 0
    assert reached(layer, memory) == set(range(reach + 1))


@pytest.mark.parametrize("slots", [2, 7, 8])
def test_half_the_ring_is_global_attention(slots):
    memory = random(2, slots, 6)
    half, everything = (built(locality=w, slots=slots)(memory) for w in ((slots + 1) // 2, slots))
    np.testing.assert_array_equal(half, everything)
    a = built(1, locality=slots // 2, slots=slots).attention(memory)[:, 0].numpy()
    assert np.all((a > 0) == ~np.eye(slots, dtype=bool))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e3])
def test_half_precision_is_finite(form, policy, scale):
    layer = built(form=form, dtype=keras.mixed_precision.Policy(policy))
    memory = tf.constant(scale * random(2, 12, 6), layer.compute_dtype)
    with tf.GradientTape() as tape:
        y = layer(memory)
        loss = tf.reduce_mean(tf.cast(y, tf.float32))
    assert y.dtype == layer.compute_dtype
    for v in [y, *tape.gradient(loss, layer.trainable_weights)]:
        assert np.all(np.isfinite(tf.cast(v, tf.float32)))
    exact = built(form=form)(tf.cast(memory, tf.float64)).numpy()
    if scale == 1:
        np.testing.assert_allclose(tf.cast(y, tf.float64), exact, atol=0.1 * abs(exact).max())


@pytest.mark.parametrize("arguments", [{"heads": 0}, {"order": 0}, {"locality": 0}, {"form": "x"}])
def test_a_bad_argument_is_named(arguments):
    (name, value), = arguments.items()
    with pytest.raises(ValueError, match=f"ChebAttention: {name}={value!r}") as error:
        ChebAttention(**arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("arguments", "shape", "message"), [
    ({"heads": 4}, [2, 8, 6], "heads=4 does not divide the slot width 6"),
    ({"heads": 1}, [2, 1, 6], "slots=1"),
    ({"heads": 1, "locality": 4, "form": "banded"}, [2, 8, 6], "locality=4 is as wide"),
    ({"heads": 1, "locality": 4, "form": "sparse"}, [2, 8, 6], "locality=4 is as wide"),
    ({"heads": 1}, [2, None, 6], "must be known")])
def test_sizes_that_cannot_work_are_refused(arguments, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        ChebAttention(**arguments).build(shape)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("form", FORMS)
def test_jit_equals_eager(form):
    layer = built(form=form, dtype="float32")
    memory = tf.constant(random(2, 12, 6), tf.float32)
    compiled = tf.function(layer.__call__, jit_compile=True)
    np.testing.assert_allclose(compiled(memory), layer(memory), atol=1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_gradients_match_finite_differences(form):
    layer = built(2, 3, 1, form, slots=5, width=4)
    memory, kernel = tf.constant(random(1, 5, 4)), tf.identity(layer.qkv_kernel)
    exact, numeric = tf.test.compute_gradient(layer, [memory], delta=1e-5)
    np.testing.assert_allclose(exact, numeric, atol=1e-7)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(memory)))
    slopes = tape.gradient(loss, layer.qkv_kernel).numpy()
    for index in np.ndindex(slopes.shape):
        values = []
        for step in (1e-5, -1e-5):
            moved = kernel.numpy()
            moved[index] += step
            layer.qkv_kernel.assign(moved)
            values.append(tf.reduce_sum(tf.sin(layer(memory))))
        np.testing.assert_allclose(slopes[index], (values[0] - values[1]) / 2e-5, atol=1e-7)
