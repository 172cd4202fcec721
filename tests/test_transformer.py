"""The Transformer against PyTorch's encoder, and what its masks and positions must keep."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf.baselines.transformer import EncoderBlock, Transformer, sinusoids
from santm_tf.keras import keras

MASK = np.arange(7) < np.array([[7], [4], [1]])


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomised(layer, x):
    layer(x)
    for i, w in enumerate(layer.weights):
        w.assign_add(0.3 * normal(*w.shape, seed=i))
    return layer


def block_arrays(layer, get):
    """`get` of PyTorch's parameters of an encoder layer, in the order and layout of our weights."""
    attention = layer.self_attn
    return [get(layer.norm1.weight), get(layer.norm1.bias), get(attention.in_proj_weight).T,
            get(attention.out_proj.weight).T, get(layer.norm2.weight), get(layer.norm2.bias),
            get(layer.linear1.weight).T, get(layer.linear1.bias), get(layer.linear2.weight).T,
            get(layer.linear2.bias)]


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_blocks_are_pytorchs(padded, causal):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    layer = torch.nn.TransformerEncoderLayer(8, 2, 32, dropout=0.0, norm_first=True, batch_first=True)
    theirs = torch.nn.TransformerEncoder(layer, 2, norm=torch.nn.LayerNorm(8), enable_nested_tensor=False)
    for name, p in theirs.named_parameters():
        if "in_proj_bias" not in name and "out_proj.bias" not in name:  # the paper has none: 0 at first
            p.data += 0.3 * torch.randn_like(p)
    ours = Transformer(8, 2, 2, causal=causal, return_sequences=True)
    ours.build([None, 7, 8])
    for block, layer in zip(ours.blocks, theirs.layers, strict=True):
        block.set_weights(block_arrays(layer, lambda p: p.detach().numpy()))
    ours.norm.set_weights([theirs.norm.weight.detach().numpy(), theirs.norm.bias.detach().numpy()])
    ours.embedding.set_weights([np.eye(8), np.zeros(8)])

    x, valid = normal(3, 7, 8), MASK if padded else np.ones_like(MASK)
    cosines = np.cos(np.arange(x.size)).reshape(x.shape).astype("float32") * valid[..., None]
    embedded = torch.tensor(x + sinusoids(7, 8).numpy(), requires_grad=True)
    options = {"mask": torch.ones(7, 7, dtype=torch.bool).triu(1)} if causal else {}
    if padded:
        options["src_key_padding_mask"] = torch.tensor(~MASK)
    expected = theirs(embedded, **options)
    (expected * torch.tensor(cosines)).sum().backward()
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = ours(x, mask=tf.constant(MASK) if padded else None)
        loss = tf.reduce_sum(cosines * y)
    weights = [w for block in ours.blocks for w in block.trainable_weights]
    dx, *gradients = tape.gradient(loss, [x, *weights])
    theirs_gradients = [g for layer in theirs.layers for g in block_arrays(layer, lambda p: p.grad.numpy())]
    np.testing.assert_allclose(y.numpy()[valid], expected.detach().numpy()[valid], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(dx.numpy()[valid], embedded.grad.numpy()[valid], rtol=1e-3, atol=1e-5)
    for ours, their in zip(gradients, theirs_gradients, strict=True):
        np.testing.assert_allclose(ours, their, rtol=1e-3, atol=1e-4)


def test_causal_outputs_see_no_later_step():
    x = normal(1, 9, 2)
    layer = randomised(Transformer(4, 2, 2, causal=True, return_sequences=True), x)
    moved = x.copy()
    moved[:, 5] += 1
    change = np.abs(layer(moved) - layer(x)).max(-1)[0]
    assert np.all(change[:5] == 0) and np.all(change[5:] > 0)
    layer = randomised(Transformer(4, 2, 2, return_sequences=True), x)
    assert np.all(np.abs(layer(moved) - layer(x)).max(-1) > 0)


@pytest.mark.parametrize("options", [
    {}, {"causal": True}, {"patch": 3}, {"return_sequences": True},
    {"return_sequences": True, "causal": True},
    {"patch": 3, "causal": True, "positions": "learned", "max_length": 7}], ids=str)
def test_padding_changes_nothing(options):
    x = normal(3, 7, 2)
    layer = randomised(Transformer(4, 2, 2, **options), x)
    x[~MASK] = np.nan
    padded = layer(x, mask=tf.constant(MASK))
    for row, mask in enumerate(MASK):
        alone = layer(x[row:row + 1, mask])[0]
        ours = padded[row][mask] if options.get("return_sequences") else padded[row]
        np.testing.assert_allclose(ours, alone, atol=1e-5)


def test_a_mask_comes_from_keras():
    x = normal(3, 7, 2) * MASK[..., None]
    layer = Transformer(4, 1, 2)
    model = keras.Sequential([keras.Input([None, 2]), keras.layers.Masking(), layer])
    np.testing.assert_allclose(model(x), layer(x, mask=tf.constant(MASK)), atol=1e-6)


@pytest.mark.parametrize("width", [1, 5, 8])
def test_sinusoids_are_the_papers(width):
    t, i = np.arange(50)[:, None], np.arange(width)
    angle = t / 10000 ** (2 * (i // 2) / width)
    np.testing.assert_allclose(sinusoids(50, width), np.where(i % 2, np.cos(angle), np.sin(angle)), atol=1e-4)


def test_tokens_are_consecutive_steps():
    layer = Transformer(4, 1, 2, patch=3)
    x = normal(2, 7, 2)
    tokens, mask = layer._tokens(tf.constant(x), tf.constant(MASK[:2]))
    np.testing.assert_array_equal(tokens[:, 1], x[:, 3:6].reshape(2, 6))
    np.testing.assert_array_equal(tokens[:, 2], np.concatenate([x[:, 6], np.zeros([2, 4])], 1))
    np.testing.assert_array_equal(mask, [[True, True, True], [True, True, False]])


def test_the_pooled_output_is_the_last_when_causal_and_the_mean_otherwise():
    x, mask = normal(3, 7, 2), tf.constant(MASK)
    for causal in (True, False):
        sequences = randomised(Transformer(4, 1, 2, causal=causal, return_sequences=True), x)
        pooled = Transformer(4, 1, 2, causal=causal)
        pooled(x)
        pooled.set_weights(sequences.get_weights())
        y = sequences(x, mask=mask).numpy()
        rows = [row[valid] for row, valid in zip(y, MASK, strict=True)]
        expected = [row[-1] if causal else row.mean(0) for row in rows]
        np.testing.assert_allclose(pooled(x, mask=mask), expected, atol=1e-6)


def test_dropout_is_for_training_only():
    x = normal(2, 5, 3)
    layer = randomised(Transformer(4, 1, 2, dropout=0.5), x)
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    assert np.any(np.abs(layer(x, training=True) - layer(x)) > 1e-3)


@pytest.mark.parametrize("jit", [False, True])
def test_lengths_that_are_not_known(jit):
    layer = randomised(Transformer(4, 1, 2, patch=2), normal(1, 4, 3))
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 3])], jit_compile=jit)
    for steps in (1, 6, 7):
        x = normal(2, steps, 3)
        np.testing.assert_allclose(run(tf.constant(x)), layer(x), atol=1e-5)


def test_learned_positions_end_at_max_length():
    layer = Transformer(4, 1, 2, positions="learned", max_length=6)
    assert layer(normal(2, 6, 3)).shape == [2, 4]
    message = "Transformer: a sequence is longer than max_length=6"
    with pytest.raises(ValueError, match=message):
        layer(normal(2, 7, 3))
    run = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 3])])
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(tf.constant(normal(2, 7, 3)))


@pytest.mark.parametrize("arguments, message", [
    ({"units": 0}, "units=0; it must be at least 1"),
    ({"layers": 0}, "layers=0; it must be at least 1"),
    ({"attention_heads": 0}, "attention_heads=0; it must be at least 1"),
    ({"attention_heads": 3}, "attention_heads=3; it must divide units=8"),
    ({"patch": 0}, "patch=0; it must be at least 1"),
    ({"patch": 2, "return_sequences": True}, "patch=2; it must be 1 where an output at each step is wanted"),
    ({"positions": "none"}, "positions='none'; use 'learned' or 'sinusoidal'"),
    ({"positions": "learned"}, "positions='learned' needs max_length, the longest sequence in steps; "
                               "sequences of unknown length go with 'sinusoidal'")])
def test_what_cannot_work_is_refused(arguments, message):
    with pytest.raises(ValueError) as error:
        Transformer(**{"units": 8, **arguments})
    assert str(error.value) == f"Transformer: {message}"


def test_a_block_alone_names_heads_that_do_not_divide():
    with pytest.raises(ValueError, match="attention_heads=3; it must divide the width 8"):
        EncoderBlock(3)(normal(2, 5, 8))
