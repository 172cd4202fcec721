"""Every public layer, one list of what a Keras layer must do (after Sonnet's conformance tests)."""

import copy
import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import (
    SANTM,
    AblationMask,
    AccessMask,
    AdaptiveAccess,
    CascadeLSTMCell,
    ChebAttention,
    HardConcreteMask,
    MemoryCell,
    NTMCell,
    Recurrent,
    SegmentLSTMCell,
    load_model,
)
from santm_tf.baselines import lnlstm, lstm
from santm_tf.baselines.cuw_ntm import CachedUniformWritingNTM
from santm_tf.baselines.dilated_lstm import DilatedLSTM
from santm_tf.baselines.drr_lstm import DRRLSTMCell
from santm_tf.baselines.lmu import LMUCell
from santm_tf.baselines.mamba import Mamba
from santm_tf.baselines.ntm import NTM
from santm_tf.baselines.skip_lstm import SkipLSTM
from santm_tf.baselines.transformer import Transformer
from santm_tf.baselines.uw_ntm import UniformWritingNTM
from santm_tf.keras import keras

BATCH, STEPS = 8, 8  # enough for two periods of a mask, or two blocks or patches and part of a third
MEMORY = {"memory_slots": 5, "slot_width": 4}
SMALL = {"units": 4, **MEMORY, "attention_heads": 2, "locality": 1, "segment_length": 2.0,
         "jit_compile": False}
LSTM = dict(units=4, dropout=0.1, jit_compile=False, seed=0)


def sequence(width):
    return [BATCH, STEPS, width]


# A layer, and the shapes of its inputs.
LAYERS = {
    "SANTM": (lambda: SANTM(**SMALL, read_heads=2), [sequence(2)]),
    "SANTM, sequences": (lambda: SANTM(**SMALL, mask_period=4, access_rate=0.5, write_heads=2,
                                       return_sequences=True), [sequence(2)]),
    "SANTM, sparse, read": (lambda: SANTM(**SMALL, memory="sparse", top_k=2, access_rate=0.5,
                                          recall="read"), [sequence(2)]),
    "SANTM, keys and values": (lambda: SANTM(**{**SMALL, "segment_length": 1}, memory="key_value", top_k=2,
                                             boundaries="fixed", return_sequences=True), [sequence(2)]),
    "ChebAttention, dense": (lambda: ChebAttention(2, locality=1, form="dense"), [[BATCH, 7, 4]]),
    "ChebAttention, banded": (lambda: ChebAttention(2, locality=2, form="banded"), [[BATCH, 7, 4]]),
    "ChebAttention, sparse": (lambda: ChebAttention(2, locality=2, form="sparse"), [[BATCH, 7, 4]]),
    "SANTM, hard concrete, read": (lambda: SANTM(**SMALL, access="hard_concrete", recall="read",
                                                 memory_init="constant", boundary_penalty=0.1),
                                   [sequence(2)]),
    "SANTM, adaptive": (lambda: SANTM(**SMALL, access="adaptive", access_rate=0.5, return_sequences=True),
                        [sequence(2)]),
    "AdaptiveAccess": (lambda: AdaptiveAccess(0.5, seed=0), [sequence(3)]),
    "AblationMask": (lambda: AblationMask(4, seed=0), [sequence(3)]),
    "HardConcreteMask": (lambda: HardConcreteMask(4, seed=0), [sequence(3)]),
    "AccessMask": (lambda: AccessMask(4), [sequence(3)]),
    "SegmentLSTMCell": (lambda: Recurrent(SegmentLSTMCell(4, 2.0), return_sequences=True),
                        [sequence(2)]),
    "CascadeLSTMCell": (lambda: Recurrent(CascadeLSTMCell(4)), [sequence(2), sequence(1)]),
    "MemoryCell": (lambda: Recurrent(MemoryCell(4, **MEMORY)), [sequence(2), sequence(1)]),
    "NTMCell": (lambda: Recurrent(NTMCell(4, **MEMORY), return_sequences=True), [sequence(2)]),
    "NTM": (lambda: NTM(4, **MEMORY, read_heads=2, memory_init="learned", jit_compile=False), [sequence(2)]),
    "NTM, sequences": (lambda: NTM(4, **MEMORY, write_heads=2, return_sequences=True, jit_compile=False),
                       [sequence(2)]),
    "UniformWritingNTM": (lambda: UniformWritingNTM(4, memory_slots=3, slot_width=4, jit_compile=False),
                          [sequence(2)]),
    "UniformWritingNTM, sequences": (
        lambda: UniformWritingNTM(4, 3, **MEMORY, return_sequences=True, jit_compile=False), [sequence(2)]),
    "CachedUniformWritingNTM": (
        lambda: CachedUniformWritingNTM(4, 3, **MEMORY, jit_compile=False), [sequence(2)]),
    "Transformer": (lambda: Transformer(4, 1, 2, patch=3), [sequence(2)]),
    "Transformer, causal": (lambda: Transformer(4, 1, 2, positions="learned", max_length=STEPS, causal=True,
                                                patch=3), [sequence(2)]),
    "Transformer, sequences": (lambda: Transformer(4, 2, 2, return_sequences=True), [sequence(2)]),
    "Mamba": (lambda: Mamba(4, 1, 3, chunk_length=4, jit_compile=False), [sequence(2)]),
    "Mamba, sequences": (lambda: Mamba(4, 2, 3, chunk_length=None, return_sequences=True, jit_compile=False),
                         [sequence(2)]),
    "LayerNormLSTM": (lambda: lnlstm.make(**LSTM), [sequence(2)]),
    "LSTM": (lambda: lstm.make(**LSTM, return_sequences=True), [sequence(2)]),
    "SkipLSTM": (lambda: SkipLSTM(4, cost_per_sample=0.1), [sequence(2)]),
    "SkipLSTM, sequences": (lambda: SkipLSTM(4, memory_horizon=8, return_sequences=True), [sequence(2)]),
    "DilatedLSTM": (lambda: DilatedLSTM(4, (1, 3)), [sequence(2)]),
    "DilatedLSTM, fused": (lambda: DilatedLSTM(4, (2, 4), return_sequences=True), [sequence(2)]),
    "DRRLSTMCell": (lambda: Recurrent(DRRLSTMCell(4, 3), return_sequences=True), [sequence(2)]),
    "LMUCell": (lambda: Recurrent(LMUCell(4, 5, 6), return_sequences=True), [sequence(2)]),
    "SANTM, lmu": (lambda: SANTM(**SMALL, controller=LMUCell(4, 3, 2, memory_d=2, recurrent=False)),
                   [sequence(2)]),
}
TIMELESS = ("ChebAttention, dense", "ChebAttention, banded", "ChebAttention, sparse")


def of(names):
    """A test of the layers of these names. The tests of one layer run one after another, and share it."""
    return pytest.mark.parametrize("case", names, indirect=True, scope="module")


each = of(LAYERS)


def inputs_of(name, dtype="float32"):
    """Random data; the second input is a gate of ones and zeros."""
    rng = np.random.default_rng(0)
    x, *gate = (rng.normal(size=shape) for shape in LAYERS[name][1])
    tensors = [tf.constant(x, dtype), *[tf.constant(g > 0, dtype) for g in gate]]
    return tuple(tensors) if gate else tensors[0]


def built(name):
    """The layer with random weights under its first access mask, and its inputs."""
    layer = LAYERS[name][0]()
    x = inputs_of(name, keras.mixed_precision.global_policy().compute_dtype)
    layer(x)
    rng = np.random.default_rng(1)
    for w in layer.trainable_weights:
        if "scores" not in w.name:
            w.assign_add(0.7 * rng.normal(size=w.shape))
    return layer, x


class Case:
    """A layer, its inputs and outputs, and a functional model of its like. Tests leave them as they are."""

    def __init__(self, name):
        self.name = name
        self.layer, x = built(name)
        self.y = self.layer(x)
        self.config = self.layer.get_config()  # now: Keras 2's Sequential notes the lengths that it sees

    @property
    def x(self):
        """New tensors, as Keras 3 notes a mask on those that it is given with one."""
        return inputs_of(self.name)

    @property
    def xs(self):
        """The inputs as the model takes them: several as a list, as Keras 2 exports no other."""
        return list(self.x) if isinstance(self.x, tuple) else self.x

    @functools.cached_property
    def model(self):
        ins = tf.nest.map_structure(lambda v: keras.Input(v.shape[1:]), self.x)
        layer = type(self.layer).from_config(copy.deepcopy(self.config))
        model = keras.Model(list(ins) if isinstance(ins, tuple) else ins, layer(ins))
        layer.set_weights(self.layer.get_weights())
        return model


@pytest.fixture(scope="module")
def case(request):
    keras.utils.set_random_seed(0)
    return Case(request.param)


def assert_equal(ours, theirs, **tolerance):
    for a, b in zip(tf.nest.flatten(ours), tf.nest.flatten(theirs), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, **{"rtol": 1e-4, "atol": 1e-5, **tolerance})


@each
def test_eager_function_and_jit_agree(case):
    assert_equal(tf.function(case.layer)(case.x), case.y)
    assert_equal(tf.function(case.layer, jit_compile=True)(case.x), case.y)
    assert np.all([np.all(np.isfinite(y)) for y in tf.nest.flatten(case.y)])


@of([name for name in LAYERS if name not in TIMELESS])
def test_a_mask_leaves_padding_out(case):
    mask = np.ones([BATCH, STEPS], bool)
    assert_equal(case.layer(case.x, mask=tf.constant(mask)), case.y)
    mask[1, 4:] = False
    masked = case.layer(case.x, mask=tf.constant(mask))
    alone = case.layer(tf.nest.map_structure(lambda v: v[1:2, :4], case.x))
    for a, b in zip(tf.nest.flatten(masked), tf.nest.flatten(alone), strict=True):
        sequences = a.shape[1] == STEPS and b.shape[1] == 4
        np.testing.assert_allclose(a[1, :4] if sequences else a[1], b[0], atol=1e-5)


@pytest.fixture
def policy(request):
    keras.mixed_precision.set_global_policy(request.param)
    yield keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("float32")


def gradients(layer, x):
    with tf.GradientTape() as tape:
        ys = [tf.cast(y, tf.float32) for y in tf.nest.flatten(layer(x, training=True))]
        loss = sum(tf.reduce_mean(tf.sin(3.0 * y)) for y in ys)
        loss += sum(tf.cast(v, tf.float32) for v in layer.losses)
    return tape.gradient(loss, layer.trainable_weights)


@pytest.mark.parametrize("name, policy", [
    *((name, "mixed_float16") for name in LAYERS),  # which overflows first
    *((name, "mixed_bfloat16") for name in ("SANTM", "SANTM, sparse, read", "NTM", "Mamba", "SkipLSTM"))],
    indirect=["policy"])
def test_it_runs_in_half_precision(name, policy):
    layer, x = built(name)
    assert all(w.dtype == tf.float32 for w in layer.trainable_weights)
    for y in tf.nest.flatten(layer(x)):
        assert y.dtype == policy.compute_dtype
        assert np.all(np.isfinite(tf.cast(y, tf.float32)))
    for w, gradient in zip(layer.trainable_weights, gradients(layer, x), strict=True):
        assert np.all(np.isfinite(tf.convert_to_tensor(gradient))), w.name


@each
def test_its_config_rebuilds_it(case):
    again = type(case.layer).from_config(copy.deepcopy(case.config))
    again(case.x)
    again.set_weights(case.layer.get_weights())
    assert_equal(again(case.x), case.y)
    assert again.get_config() == case.config


@each
def test_its_config_survives_json(case):
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(case.layer)))
    again = keras.saving.deserialize_keras_object(config)
    assert [w.shape for w in again.weights] == [w.shape for w in case.layer.weights]


@each
def test_a_keras_file_brings_it_back(case, tmp_path):
    case.model.save(tmp_path / "model.keras")
    assert_equal(load_model(tmp_path / "model.keras")(case.xs), case.y)


# One of a kind, as saving traces a layer many times over; all come back from a Keras file.
SAVED = ("SANTM, sequences", "ChebAttention, sparse", "HardConcreteMask", "AdaptiveAccess", "MemoryCell",
         "NTM, sequences", "Transformer, causal", "Mamba, sequences", "SkipLSTM")


@of(SAVED)
def test_a_saved_model_brings_it_back(case, tmp_path):
    case.model.export(tmp_path / "model")
    again = tf.saved_model.load(tmp_path / "model")
    assert_equal(again.serve(case.xs), case.y)


@each
def test_a_gradient_reaches_every_weight(case):
    found = gradients(case.layer, case.x)
    for w, gradient in zip(case.layer.trainable_weights, found, strict=True):
        assert gradient is not None and np.any(tf.convert_to_tensor(gradient)), w.name


@each
def test_its_weights_have_names_of_their_own(case):
    names = [getattr(w, "path", w.name) for w in case.layer.weights]
    assert len(set(names)) == len(names)


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.keras: no such file") as error:
        load_model(tmp_path / "nothing.keras")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("kind", ["cut", "overwritten", "text", "empty folder"])
def test_what_is_no_model_is_named(kind, tmp_path):
    path = tmp_path / "model.keras"
    if kind in ("cut", "overwritten"):
        Case("NTMCell").model.save(path)
        data = path.read_bytes()
        half = data[:len(data) // 2]
        path.write_bytes(half + (bytes(100) + data[len(half) + 100:] if kind != "cut" else b""))
    elif kind == "text":
        path.write_text("no model")
    else:
        path.mkdir()
    with pytest.raises(ValueError, match="model.keras: not a saved Keras model") as error:
        load_model(path)
    assert "\n" not in str(error.value)


def test_a_long_reason_is_cut_to_its_first_line(monkeypatch, tmp_path):
    def refuse(*_, **__):
        raise ValueError("first\nsecond")

    monkeypatch.setattr(keras.models, "load_model", refuse)
    with pytest.raises(ValueError, match=r"\(first\)$"):
        load_model(tmp_path)
