"""`Recurrent` against Keras `RNN` and PyTorch: forward and backward of an LSTM.

`python -m benchmarks.scan`: B=64, T=784, 64 units, one input feature.
"""

from benchmarks import harness

BATCH, STEPS, UNITS = 64, 784, 64


def _keras(make, jit):
    def case():
        import santm_tf  # noqa: F401, I001
        import tensorflow as tf

        layer = make(tf.keras.layers.LSTMCell(UNITS))
        x = tf.random.stateless_normal([BATCH, STEPS, 1], [0, 0])
        layer.build(x.shape)

        @tf.function(jit_compile=jit)
        def train(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(layer(x, training=True)))
            return loss, tape.gradient(loss, layer.trainable_weights)

        return lambda: float(train(x)[0]), {"parameters": layer.count_params()}

    return case


def _rnn(cell):
    import tensorflow as tf

    return tf.keras.layers.RNN(cell, return_sequences=True)


def _recurrent(cell):
    from santm_tf import Recurrent

    return Recurrent(cell, return_sequences=True)


def _recurrent_on_cores(cell):
    from santm_tf import Recurrent

    return Recurrent(cell, return_sequences=True, jit_compile=True)


def _torch():
    import torch

    lstm = torch.nn.LSTM(1, UNITS, batch_first=True)
    x = torch.randn(BATCH, STEPS, 1)

    def step():
        lstm.zero_grad()
        loss = (lstm(x)[0] ** 2).mean()
        loss.backward()
        return float(loss)

    return step, {"parameters": sum(p.numel() for p in lstm.parameters())}


CASES = {
    "Keras RNN": _keras(_rnn, False),
    "Keras RNN, jit": _keras(_rnn, True),
    "Recurrent": _keras(_recurrent, False),
    "Recurrent, jit": _keras(_recurrent_on_cores, False),
    "Recurrent in a jit function": _keras(_recurrent, True),
    "PyTorch nn.LSTM": _torch,
}

if __name__ == "__main__":
    harness.main("scan", CASES, "Recurrent, jit")
