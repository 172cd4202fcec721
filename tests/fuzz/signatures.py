"""Calls of an exported model with odd tensors: an answer where all is as it says, and else its own error."""

import functools
import tempfile

import hypothesis.strategies as st
import numpy as np
import tensorflow as tf

from santm_tf import SANTM
from santm_tf.errors import ArgumentError
from santm_tf.export import export
from santm_tf.keras import keras

FEATURES, OUTPUTS = 2, 3
SIZES = {"d": FEATURES, "o": OUTPUTS}
# Of each input its axes, B and T being free, and its type. The state's are added to `step`.
INPUTS = {
    "serving_default": {"inputs": ("BTd", "float32"), "lengths": ("B", "int32")},
    "step": {"inputs": ("Bd", "float32")},
    "initial_state": {"batch": ("", "int32")},
    "score": {
        "inputs": ("BTd", "float32"),
        "lengths": ("B", "int32"),
        "targets": ("BTo", "float32"),
        "weights": ("BT", "float32"),
    },
}
CHANGES = "none", "size", "rank", "dtype", "value", "gone", "more", "zero"
# How our own errors begin in TensorFlow's, and what it says of types and of a batch that is no scalar.
SAID = "assertion failed: [", "Summarized data: b'", "was expected to be a", "Shape of tensor batch"
VALUES = float("nan"), float("inf"), -float("inf"), -1.0, 0.0, 1e38, 2.0**31 - 1, 7.0


@functools.cache
def _made():
    """The signatures of an exported model, and a stream's state."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input([None, FEATURES]),
            SANTM(
                4,
                memory_slots=6,
                slot_width=4,
                attention_heads=2,
                locality=1,
                mask_period=5,
                access_rate=0.4,
                segment_length=2,
                jit_compile=False,
                return_sequences=True,
            ),
            keras.layers.Dense(OUTPUTS),
        ]
    )
    model.compile(loss="mse")
    loaded = tf.saved_model.load(_exported(model))
    found = loaded.signatures
    return loaded, found, {name: v.numpy() for name, v in found["initial_state"](tf.constant(2)).items()}


def _exported(model):
    folder = tempfile.mkdtemp(prefix="fuzz-")
    export(model, folder)
    return folder


def cases():
    """A signature, B, T, and changes of its inputs: `(name, B, T, [(input, change, value), ...])`."""
    state = sorted(_made()[2])
    names = {name: sorted(inputs) + state * (name == "step") for name, inputs in INPUTS.items()}
    return st.sampled_from(sorted(INPUTS)).flatmap(
        lambda name: st.tuples(
            st.just(name),
            st.integers(1, 3),
            st.integers(1, 4),
            st.lists(
                st.tuples(st.sampled_from(names[name]), st.sampled_from(CHANGES), st.sampled_from(VALUES)),
                max_size=2,
                unique_by=lambda one: one[0],
            ),
        )
    )


def check(case):
    """What is right is answered by finite numbers; what is not is refused, in the words of the first line."""
    name, batch, steps, changes = case
    given = _given(name, batch, steps)
    for of, change, value in changes:
        if of in given:
            _change(given, of, change, value)
    right = _right(name, given)
    try:
        found = _made()[1][name](**{of: tf.constant(value) for of, value in given.items()})
    except tf.errors.InvalidArgumentError as error:
        assert not right, "a right call is refused"
        assert any(said in error.message for said in SAID), error.message
        raise ArgumentError(error.message.splitlines()[0]) from error
    except (TypeError, ValueError) as error:  # of TensorFlow, where a name or a rank is not the signature's
        assert not right, "a right call is refused"
        raise ArgumentError(str(error).strip().splitlines()[0]) from error
    assert right, "a wrong call is answered"
    if all(np.abs(value.astype(float)).max(initial=0) < 1e15 for value in given.values()):
        assert all(np.isfinite(value).all() for value in found.values())


def _given(name, batch, steps):
    """Right inputs."""
    rng, given = np.random.default_rng(0), {}
    sizes = {"B": batch, "T": steps, **SIZES}
    for of, (axes, dtype) in INPUTS[name].items():
        given[of] = rng.normal(size=[sizes[axis] for axis in axes]).astype(dtype)
    if "lengths" in given:
        given["lengths"] = np.full([batch], steps, np.int32)
    if "weights" in given:
        given["weights"] = np.ones([batch, steps], np.float32)
    if "batch" in given:
        given["batch"] = np.array(batch, np.int32)
    if name == "step":
        given |= {of: np.repeat(value[:1], batch, 0) for of, value in _made()[2].items()}
    return given


def _right(name, given):
    """Whether inputs are as the signatures' docstring says."""
    state, sizes = (_made()[2] if name == "step" else {}), dict(SIZES)
    if given.keys() != INPUTS[name].keys() | state.keys():
        return False
    for of, x in given.items():
        axes, dtype = INPUTS[name].get(of) or ("B", state[of].dtype)
        within = state[of].shape[1:] if of in state else ()
        if x.dtype != dtype or x.ndim != len(axes) + len(within) or x.shape[len(axes):] != within:
            return False
        if any(sizes.setdefault(axis, size) != size for axis, size in zip(axes, x.shape, strict=False)):
            return False
        if not np.isfinite(x).all():
            return False
    if "lengths" in given and not ((given["lengths"] >= 1) & (given["lengths"] <= sizes["T"])).all():
        return False
    if "model" in given and not (given["model"] == state["model"][0]).all():
        return False
    return "batch" not in given or 1 <= given["batch"] <= 10**6


def _change(given, of, change, value):
    """Changes an input in place."""
    x = np.asarray(given[of])
    if change == "gone":
        del given[of]
    elif change == "more":
        given["more"] = x
    elif change == "dtype":
        given[of] = x.astype({"float32": "float64", "int32": "int16"}.get(x.dtype.name, "int32"))
    elif change == "rank":
        given[of] = x[None]
    elif change in ("size", "zero") and x.ndim:
        given[of] = x[:0] if change == "zero" else np.concatenate([x, x[..., :1]], -1)
    elif change == "value" and x.size:
        given[of] = x.copy()
        with np.errstate(invalid="ignore"):
            given[of][(0,) * x.ndim] = np.asarray(value).astype(x.dtype)
