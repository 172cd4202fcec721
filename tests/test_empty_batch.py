"""A batch of no rows, which is what a device or a core gets of a batch that is smaller than they are many."""

import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM, baselines
from santm_tf.keras import VERSION, keras

STEPS, FEATURES = 4, 3
SMALL = {"units": 4, "memory_slots": 8, "slot_width": 4, "attention_heads": 2, "locality": 2}
MODELS = {name: (name, {}) for name in baselines.NAMES} | {
    "skip_lstm": ("skip_lstm", {"cost_per_sample": 0.1}), "sparse": ("santm", {"memory": "sparse"}),
    "hard_concrete": ("santm", {"mask": "hard_concrete"}),
    "adaptive": ("santm", {"mask": "adaptive", "initial_access_rate": 0.5, "access_rate": 0.5}),
    "ablation": ("santm", {"mask": "ablation"}), "fixed": ("santm", {"boundaries": "fixed"})}
PRICED = "hard_concrete", "drr_lstm"  # of which the weights themselves, not their outputs, add to the loss


@pytest.mark.parametrize("name, jit_compile", [
    *((name, False) for name in MODELS), *((name, True) for name in ("santm", "ntm", "mamba"))])
def test_a_batch_of_no_rows_has_a_loss_and_asks_for_no_change(name, jit_compile):
    model, given = MODELS[name]
    given = {option: SMALL[option] for option in baselines.options(model) if option in SMALL} | given
    layer = baselines.make(model, given, steps=STEPS, return_sequences=False, seed=0, jit_compile=jit_compile)
    model = keras.Sequential([keras.Input([STEPS, FEATURES]), layer, keras.layers.Dense(2)])

    def learn(x):
        with tf.GradientTape() as tape:
            y = model(x, training=True)
            loss = tf.reduce_sum(y) + tf.add_n([tf.constant(0.0), *model.losses])
        return y, loss, tape.gradient(loss, model.trainable_variables, unconnected_gradients="zero")

    if not jit_compile:  # XLA's programs have batches of known sizes, a graph's may have any
        learn = tf.function(learn, [tf.TensorSpec([None, STEPS, FEATURES])])
    y, loss, gradients = learn(tf.zeros([0, STEPS, FEATURES]))
    assert y.shape == [0, 2]
    gradients = [tf.convert_to_tensor(gradient).numpy() for gradient in gradients]
    assert np.isfinite(loss) and all(np.isfinite(gradient).all() for gradient in gradients)
    if name not in PRICED:
        assert loss == 0 and not any(gradient.any() for gradient in gradients)
    assert all(np.isfinite(metric.result()) for metric in model.metrics)


def test_a_share_of_no_rows_among_cores_changes_nothing():
    layer = SANTM(4, memory_slots=8, slot_width=4, attention_heads=2, locality=2, mask_period=STEPS,
                  memory="sparse", jit_compile=True)
    x = tf.constant(np.random.default_rng(0).normal(size=[1, STEPS, FEATURES]), tf.float32)
    any_batch = tf.function(layer, [tf.TensorSpec([None, STEPS, FEATURES])])  # cut up for all cores
    np.testing.assert_allclose(any_batch(x), layer(x), atol=1e-6)


DEVICES = """
import json, sys
import santm_tf, numpy as np, tensorflow as tf
from santm_tf.baselines.skip_lstm import SkipLSTM
from santm_tf.keras import keras
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
makers = {"santm": lambda: santm_tf.SANTM(4, memory_slots=8, slot_width=4, recall="read", segment_length=2),
          "skip_lstm": lambda: SkipLSTM(4, cost_per_sample=0.1)}
x, y = (np.random.default_rng(0).normal(size=[9, n]).astype("float32") for n in (6, 2))
x = x.reshape(9, 2, 3)

def made(maker):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input([2, 3]), maker(), keras.layers.Dense(2)])
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)  # tracing takes a minute
    return model

def now(model, x, y):  # what a model says of some rows, without tracing it
    y_ = model(x, training=True)
    found = {m.name: float(m.result()) for m in model.metrics if m.name != "loss"}
    model.reset_metrics()
    return {"loss": float(tf.reduce_mean((y - y_) ** 2) + tf.add_n(model.losses)), **found}

for name, maker in makers.items():
    alone = made(maker)
    shares = [(len(x[at]), now(alone, x[at], y[at])) for at in (slice(4), slice(4, 8), slice(8, 9))]
    wanted = {key: sum(rows * share[key] for rows, share in shares) / 9 for key in shares[0][1]}
    with strategy.scope():
        model = made(maker)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(8)
    found = {key: values[0] for key, values in model.fit(data, verbose=0).history.items()}
    # A gradient that is not finite makes weights NaN at a learning rate of 0, too.
    finite = all(np.isfinite(w).all() for w in model.get_weights())
    print(json.dumps([name, wanted, found, finite]), flush=True)
"""


@pytest.mark.skipif(VERSION == 3, reason="Keras 3 cannot add its own loss of no rows to another")
def test_two_devices_of_which_one_gets_no_row(tmp_path):
    root = pathlib.Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", DEVICES], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [name for name, *_ in lines] == ["santm", "skip_lstm"]
    for name, wanted, found, finite in lines:
        assert finite and found == pytest.approx(wanted, rel=1e-4), name
