"""SANTM's train step against its access rate, and against the same model with an NTM on top.

`python -m benchmarks.step`: B=64, T=784, 32 units, memory of 32 x 32, ten classes; one whole step of
`model.fit`: forward, backward, Adam. PyTorch's fused LSTM of 64 (forward and backward) is the measure
of the machine. Boundaries come at the rate that `segment_length` asks for.
"""

from benchmarks import harness
from benchmarks.scan import _torch

BATCH, STEPS, UNITS, CLASSES = 64, 784, 32, 10


def model_and_data(**options):
    """A compiled model, its SANTM, and one batch without end."""
    import santm_tf  # noqa: I001
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    layer = santm_tf.SANTM(UNITS, **options)
    model = tf.keras.Sequential(
        [tf.keras.Input([STEPS, 1]), layer, tf.keras.layers.Dense(CLASSES)])
    model.compile(tf.keras.optimizers.Adam(1e-5, global_clipnorm=1.0),
                  tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    x = tf.random.stateless_uniform([BATCH, STEPS, 1], [0, 0])
    y = tf.random.stateless_uniform([BATCH], [0, 1], 0, CLASSES, tf.int32)
    # x is uniform: a boundary with the probability 1/L, at which a trained model is held.
    bottom = layer.bottom
    bottom.boundary_kernel.assign([[1.0]])
    bottom.boundary_recurrent_kernel.assign(tf.zeros([UNITS, 1]))
    bottom.boundary_bias.assign([1.0 / bottom.segment_length - 1.0])
    return model, layer, tf.data.Dataset.from_tensors((x, y)).repeat()


def train_step(**options):
    """A case: one step of `fit`."""
    def case():
        model, layer, data = model_and_data(**options)
        # As `fit` does; `train_on_batch` makes an iterator a call, whose deletion waits on a timer.
        data = iter(data)
        model.make_train_function()
        train = model.train_function

        def step():
            figures = train(data)
            facts["boundary_rate"] = round(float(figures["boundary_rate"]), 3)

        facts = {"parameters": model.count_params(), "access_rate": float(layer.access.rate)}
        return step, facts

    return case


CASES = {
    "NTM top, rate 1": train_step(recall="read"),
    "SANTM, rate 1": train_step(),
    "SANTM, rate 0.5": train_step(access_rate=0.5),
    "SANTM, rate 0.25": train_step(access_rate=0.25),
    "PyTorch nn.LSTM of 64": _torch,
}

if __name__ == "__main__":
    harness.main("step", CASES, "NTM top, rate 1")
