"""Which Keras models are exported: any for whole sequences, and for streams those whose layers go on."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, Recurrent, baselines
from santm_tf.answers import Answer
from santm_tf.errors import ArgumentError
from santm_tf.export import export
from santm_tf.export.serving_model import ServingModel
from santm_tf.keras import keras

layers = keras.layers
BATCH, STEPS, FEATURES, TOKENS = 3, 9, 3, 7
LENGTHS = np.array([STEPS, 1, 5], np.int32)


def santm(**options):
    return SANTM(4, memory_slots=6, slot_width=4, attention_heads=2, locality=1, mask_period=5,
                 access_rate=0.4, segment_length=2, jit_compile=False, **options)


def adaptive():
    """A SANTM whose access the input decides, after a layer that hands a mask on."""
    return SANTM(4, memory_slots=6, slot_width=4, attention_heads=2, locality=1, access="adaptive",
                 access_rate=0.4, memory_horizon=5, segment_length=2, jit_compile=False)


def normalization():
    layer = layers.Normalization()
    layer.adapt(np.random.default_rng(1).normal(3, 2, [20, FEATURES]))
    return layer


def residual():
    x = keras.Input([None, FEATURES])
    y = layers.TimeDistributed(layers.Dense(4, activation="relu"))(normalization()(x))
    y = layers.LayerNormalization()(layers.Add()([y, santm(return_sequences=True)(y)]))
    y = layers.Concatenate()([y, keras.Sequential([Recurrent(layers.GRUCell(3), return_sequences=True)])(y)])
    return keras.Model(x, layers.Dense(2)(layers.BatchNormalization()(y)))


def masked():
    """A functional model whose layers hand a mask on."""
    x = keras.Input([None, FEATURES])
    y = santm(return_sequences=True)(layers.Masking(9.0)(x))
    return keras.Model(x, layers.Dense(2)(layers.LSTM(3, return_sequences=True)(layers.Add()([y, y]))))


def shared():
    """A layer that is called twice keeps a state for each."""
    x, again = keras.Input([None, FEATURES]), layers.LSTM(FEATURES, return_sequences=True)
    return keras.Model(x, layers.Dense(2)(again(again(x))))


def attending():
    x = keras.Input([None, FEATURES])
    y = layers.LSTM(3, return_sequences=True)(layers.Masking(9.0)(x))
    return keras.Model(x, layers.Dense(2)(layers.Attention()([y, y])))


def stacked():
    cells = [layers.LSTMCell(4), layers.GRUCell(3), layers.SimpleRNNCell(2)]
    return keras.Sequential([keras.Input([None, FEATURES]), layers.Masking(9.0),
                             layers.RNN(cells, return_sequences=True)])


@keras.saving.register_keras_serializable("test_export_models")
class Subclassed(keras.Model):
    """Of layers alone; or, doubled, of an operation of its own."""

    def __init__(self, doubled=False, **kwargs):
        super().__init__(**kwargs)
        self.doubled, self.last = doubled, layers.Dense(2)
        self.inside = layers.LSTM(3, return_sequences=True)

    def call(self, x):
        y = self.last(self.inside(x))
        return tf.add(y, tf.reduce_max(y, 1, keepdims=True)) if self.doubled else y

    def get_config(self):
        return {"doubled": self.doubled}


def subclassed(**options):
    model = Subclassed(**options)
    model(tf.zeros([BATCH, STEPS, FEATURES]))
    return model


def sequential(*parts):
    return keras.Sequential([keras.Input([None, FEATURES]), *parts])


STREAMED = {
    "lstm": lambda: sequential(layers.LSTM(4), layers.BatchNormalization(), layers.Dense(2)),
    "gru": lambda: sequential(layers.GRU(4, return_sequences=True), layers.GlobalAveragePooling1D()),
    "rnn": lambda: sequential(layers.SimpleRNN(4, return_sequences=True), layers.ReLU(), layers.LSTM(2)),
    "stacked": stacked, "residual": residual, "masked": masked, "shared": shared, "subclassed": subclassed,
    "adaptive": lambda: sequential(layers.Masking(9.0), adaptive(), layers.Dense(2)),
    "half": lambda: sequential(layers.LSTM(4, dtype="mixed_float16"), layers.Dense(2, dtype="float32")),
    "tokens": lambda: keras.Sequential(
        [keras.Input([None], dtype=tf.int32), layers.Embedding(TOKENS, FEATURES, mask_zero=True),
         layers.LSTM(4, return_sequences=True), layers.Dense(2)], name="tokens"),
}
WHOLE = {
    "bidirectional": (lambda: sequential(layers.Bidirectional(santm(return_sequences=True)), layers.Dense(2)),
                      "Bidirectional. reads sequences from their end, too, which a stream has not"),
    "backwards": (lambda: sequential(layers.LSTM(4, go_backwards=True)), "go_backwards=True begins at"),
    "santm backwards": (lambda: sequential(santm(go_backwards=True)), "go_backwards=True begins at"),
    "convolution": (lambda: sequential(layers.Conv1D(4, 3, padding="same"), layers.LSTM(4)),
                    "Conv1D. computes no step by itself"),
    "largest": (lambda: sequential(layers.LSTM(4, return_sequences=True), layers.GlobalMaxPooling1D()),
                "GlobalMaxPooling1D. computes no step by itself"),
    "over time": (lambda: sequential(layers.Softmax(axis=1), layers.LSTM(4)),
                  "Softmax. computes no step by itself"),
    "attention": (attending, "Attention. computes no step by itself"),
    "its own": (lambda: subclassed(doubled=True), "Subclassed. computes no step by itself"),
}


def random_inputs(model):
    rng = np.random.default_rng(0)
    if model.name == "tokens":
        return rng.integers(0, TOKENS, [BATCH, STEPS]).astype(np.int32)
    return rng.normal(size=[BATCH, STEPS, FEATURES]).astype(np.float32)


def with_larger_weights(model):
    for i, w in enumerate(model.trainable_weights):
        if "scores" not in w.name:
            w.assign(np.random.default_rng(i).normal(0, 0.4, w.shape))
    return model


def each_is_as_alone(served, model, x, atol=1e-5):
    """Beside others and padded, a sequence gives what Keras gives for it alone."""
    padded = x.copy()
    for row, n in enumerate(LENGTHS):
        padded[row, n:] = 0 if x.dtype == np.int32 else 5.0
    valid = tf.sequence_mask(LENGTHS, STEPS)
    found = tf.function(lambda x: served.whole(x, valid)[0], autograph=False)(padded)
    for row, n in enumerate(LENGTHS):
        ours = found[row, :n] if served.sequences else found[row]
        np.testing.assert_allclose(ours, model(x[row:row + 1, :n])[0], atol=atol)


def streams_are_the_sequence(served, model, x, atol=1e-5):
    state, step = served.first(BATCH), tf.function(served.step, autograph=False)
    whole = model(x)
    for t in range(x.shape[1]):
        y, state = step(tf.constant(x[:, t]), state)
        if served.sequences or t + 1 in (4, STEPS):
            expected = whole[:, t] if served.sequences else model(x[:, :t + 1])
            np.testing.assert_allclose(y, expected, atol=atol)


@pytest.mark.parametrize("name", STREAMED)
def test_a_model_gives_what_it_gives_in_keras_whole_and_in_streams(name):
    model = STREAMED[name]()
    served, x, atol = ServingModel(model), random_inputs(model), 2e-3 if name == "half" else 1e-5
    assert served.streams is None
    each_is_as_alone(served, model, x, atol)
    if name == "tokens":
        x[:, 0] = 1  # what Keras makes of no valid step is its own
    else:
        x[0, 3] = 9.0  # is masked by some
    streams_are_the_sequence(served, model, x, atol)


@pytest.mark.parametrize("name", WHOLE)
def test_what_has_no_streams_is_served_whole_and_says_why(name, tmp_path):
    make, why = WHOLE[name]
    model = make()
    served = ServingModel(model)
    assert why.split(".")[0] in served.streams and why.split(". ")[-1] in served.streams
    assert "\n" not in served.streams and not served.state
    each_is_as_alone(served, model, random_inputs(model))


def test_an_adaptive_access_has_no_rate_to_tell(tmp_path):
    facts = export(sequential(adaptive()), tmp_path / "served")
    assert facts["access"] == "adaptive" and not {"mask_period", "access_rate"} & set(facts)


def test_a_hashed_search_has_no_streams():
    layer = SANTM(4, memory="sparse", search="lsh", memory_slots=64, mask_period=5, jit_compile=False)
    assert "search='lsh' cannot go on from a stream's state" in ServingModel(sequential(layer)).streams


def test_an_export_without_streams_says_so(tmp_path):
    facts = export(WHOLE["backwards"][0](), str(tmp_path))
    assert facts["streams"].startswith("no: lstm") and "state" not in facts and "mask_period" not in facts
    assert set(tf.saved_model.load(str(tmp_path)).signatures) == {"serving_default"}


@pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter")
def test_tensorflow_lite_has_a_baseline_or_names_the_operation_that_it_lacks(tmp_path):
    made = {name: sequential(baselines.make(name, {"units": 4}, steps=STEPS, jit_compile=False))
            for name in ("lstm", "mamba")}
    export(made["lstm"], str(tmp_path / "lstm"), tflite=True)
    lite = tf.lite.Interpreter(str(tmp_path / "lstm" / "model.tflite"))
    x = random_inputs(made["lstm"])[:1]
    found = lite.get_signature_runner("serving_default")(inputs=x)["outputs"]
    np.testing.assert_allclose(found, made["lstm"](x), atol=1e-5)
    with pytest.raises(ArgumentError, match=r"cannot run this model \(TensorListReserve\); leave out tflite"):
        export(made["mamba"], str(tmp_path / "mamba"), tflite=True)


@pytest.mark.parametrize("each", [True, False], ids=["each step", "last step"])
@pytest.mark.parametrize("name", [name for name in baselines.NAMES if name != "transformer"])
def test_every_baseline_streams_what_it_gives_for_the_whole(name, each):
    layer = baselines.make(name, {"units": 4}, steps=STEPS, return_sequences=each, jit_compile=False)
    model = sequential(layer, layers.Dense(2))
    streams_are_the_sequence(ServingModel(model), model, random_inputs(model))


@pytest.mark.parametrize("name", baselines.NAMES)
def test_every_baseline_is_served_whole_past_masked_steps(name):
    layer = baselines.make(name, {"units": 4}, steps=STEPS, jit_compile=False)
    model = sequential(layers.Masking(9.0), layer, layers.Dense(2))
    each_is_as_alone(ServingModel(model), model, random_inputs(model))


@pytest.mark.parametrize("options", [{"dilations": (2, 4)}, {"dilations": (1, 3)}], ids=str)
def test_a_dilated_lstm_streams_from_any_first_dilation(options):
    layer = baselines.dilated_lstm.DilatedLSTM(4, return_sequences=True, **options)
    model = sequential(layer)
    streams_are_the_sequence(ServingModel(model), model, random_inputs(model))


@pytest.mark.parametrize("name", ["uw_ntm", "cuw_ntm"])
def test_blocks_of_several_steps_are_streamed(name):
    """With weights so large that what a write starts from tells."""
    layer = baselines.make(name, {"units": 4, "write_interval": 4}, return_sequences=True, jit_compile=False)
    model = with_larger_weights(sequential(layer))
    streams_are_the_sequence(ServingModel(model), model, random_inputs(model))


def test_a_masked_step_of_a_baseline_is_held():
    for name in set(baselines.NAMES) - {"transformer", "dilated_lstm"}:
        layer = baselines.make(name, {"units": 4}, steps=STEPS, jit_compile=False)
        model = sequential(layers.Masking(9.0), layer)
        x = random_inputs(model)
        x[0, 3:5] = x[2, 7] = 9.0
        served = ServingModel(model)
        state = served.first(BATCH)
        for t in range(STEPS):
            y, state = served.step(tf.constant(x[:, t]), state)
        np.testing.assert_allclose(y, model(x), atol=1e-5, err_msg=name)


@pytest.mark.parametrize("answer, outputs, message", [
    (("class", ["a", "b"]), 3, r"names=\['a', 'b'\] are 2; the model needs 3"),
    (("labels", []), 2, "the model needs 2"),
    (("numbers", ["a"], 0.0, 1.0, [2, 2]), 4, "the model needs 2"),
    (("numbers", [], 0.0, 1.0, [2, 2]), 3, r"shape=\[2, 2\] holds 4 numbers; the model gives 3"),
    (("numeric",), 3, "kind='numeric'; use class, labels or numbers"),
])
def test_an_answer_that_does_not_fit_is_refused(answer, outputs, message):
    with pytest.raises(ArgumentError, match=message):
        Answer(*answer).check(outputs)


def test_an_answer_is_in_the_graph(tmp_path):
    model, x = sequential(layers.LSTM(3), layers.Dense(4)), np.ones([2, 3, FEATURES], np.float32)
    y = model(x).numpy()
    answers = {
        "class": (Answer("class", "abcd"), {"probabilities": np.exp(y) / np.exp(y).sum(-1, keepdims=True),
                                            "class": np.array(list("abcd"), "S")[y.argmax(-1)]}),
        "labels": (Answer("labels", "abcd"), {"probabilities": 1 / (1 + np.exp(-y))}),
        "numbers": (Answer("numbers", "ab", [1, 2, 3, 4], 10.0, [2, 2]),
                    {"values": (np.array([1, 2, 3, 4]) + 10 * y).reshape([2, 2, 2])})}
    for kind, (answer, expected) in answers.items():
        facts = export(model, str(tmp_path / kind), answer=answer)
        assert facts["outputs"]["kind"] == kind and facts["outputs"]["names"] == list(answer.names)
        signatures = tf.saved_model.load(str(tmp_path / kind)).signatures
        found = signatures["serving_default"](inputs=x, lengths=[3, 3])
        state = signatures["initial_state"](batch=2)
        for _ in range(3):
            found_last = signatures["step"](inputs=x[:, 0], **state)
            state = {name: found_last[name] for name in state}
        for name, value in expected.items():
            for outputs in found, found_last:
                if name == "class":
                    np.testing.assert_array_equal(outputs[name], value)
                else:
                    np.testing.assert_allclose(outputs[name], value, rtol=1e-5)
