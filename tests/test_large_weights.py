"""No model gives NaN, forward or backward, where its weights are a hundred and a thousand times as large."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import baselines
from santm_tf.training.config import configured
from santm_tf.training.models import build
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task
from tests.helpers import in_keras_3_alone

SMALL = {"task": "adding", "length": "8", "steps_per_epoch": "1", "batch_size": "2",
         "units": "8", "jit_compile": False}
CASES = [*({"model": name} for name in baselines.NAMES),
         {"memory": "sparse", "boundaries": "change"}, {"memory": "key_value", "reads_on": True},
         {"mask": "adaptive", "access_rate": "0.5", "recall": "read", "controller": "lmu"}]


@in_keras_3_alone
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_outputs_and_gradients_stay_finite(case):
    config = configured({**SMALL, **case})
    task = load_task(config)
    model = build(resolve(config, task), task)
    x, _ = next(iter(task.train))
    model(x)
    first = [weight.numpy() for weight in model.trainable_weights]
    for scale in 100, 1000:
        for weight, value in zip(model.trainable_weights, first, strict=True):
            weight.assign(scale * value)
        with tf.GradientTape() as tape:
            y = model(x, training=True)
            total = tf.reduce_sum(y)  # a loss that does not overflow where y does not
        gradients = tape.gradient(total, model.trainable_weights)
        assert np.isfinite(y).all(), scale
        for weight, gradient in zip(model.trainable_weights, gradients, strict=True):
            if gradient is not None:
                assert np.isfinite(tf.convert_to_tensor(gradient)).all(), (scale, weight.path)
