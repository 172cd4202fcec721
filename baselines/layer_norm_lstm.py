"""An LSTM cell with layer normalisation (Ba, Kiros and Hinton 2016, arXiv 1607.06450)."""

import tensorflow as tf

from santm_tf.baselines.layer import built
from santm_tf.keras import dropped, keras


@keras.saving.register_keras_serializable("Addons")  # what is saved of one loads as the other
class LayerNormLSTMCell(keras.layers.LSTMCell):
    """`tfa.rnn.LayerNormLSTMCell` where tensorflow-addons is not: its equations, weights and defaults.

    `z = LN(x W) + LN(h U) + b`,   `i, f, o = sigmoid(z_i), sigmoid(z_f), sigmoid(z_o)`
    `c' = LN(f c + i tanh(z_c))`,   `h' = o tanh(c')`
    `LN(v) = gamma (v - mean(v)) / sqrt(var(v) + norm_epsilon) + beta`, gamma and beta of its own for each

    Args:
      units: H.
      norm_gamma_initializer, norm_beta_initializer, norm_epsilon: of the three norms.
      **kwargs: see `tf.keras.layers.LSTMCell`. One dropout mask serves all four gates.

    Input, output and state: as of `tf.keras.layers.LSTMCell`. Weights: the LSTM's, then gamma and beta of the
    norms of `x W`, `h U` and c.

    >>> import tensorflow as tf
    >>> from santm_tf import Recurrent
    >>> from santm_tf.baselines.layer_norm_lstm import LayerNormLSTMCell
    >>> Recurrent(LayerNormLSTMCell(8))(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, norm_gamma_initializer="ones", norm_beta_initializer="zeros", norm_epsilon=1e-3,
                 **kwargs):
        super().__init__(units, **kwargs)
        self.norm_gamma_initializer = keras.initializers.get(norm_gamma_initializer)
        self.norm_beta_initializer = keras.initializers.get(norm_beta_initializer)
        self.norm_epsilon = norm_epsilon
        self.kernel_norm, self.recurrent_norm, self.state_norm = (
            keras.layers.LayerNormalization(
                epsilon=norm_epsilon, gamma_initializer=self.norm_gamma_initializer,
                beta_initializer=self.norm_beta_initializer, name=name, dtype=self.dtype_policy)
            for name in ("kernel_norm", "recurrent_norm", "state_norm"))

    def build(self, input_shape):
        super().build(input_shape)
        built(self.kernel_norm, [None, 4 * self.units])
        built(self.recurrent_norm, [None, 4 * self.units])
        built(self.state_norm, [None, self.units])

    def call(self, inputs, states, training=None):
        h, c = states
        inputs, h = dropped(self, inputs, h, training)
        z = self.kernel_norm(inputs @ self.kernel) + self.recurrent_norm(h @ self.recurrent_kernel)
        z = z + self.bias if self.use_bias else z
        i, f, g, o = tf.split(z, 4, -1)
        gate, squash = self.recurrent_activation, self.activation
        c = self.state_norm(gate(f) * c + gate(i) * squash(g))
        h = gate(o) * squash(c)
        return h, [h, c]

    def get_config(self):
        serialize = keras.initializers.serialize
        return {**super().get_config(),
                "norm_gamma_initializer": serialize(self.norm_gamma_initializer),
                "norm_beta_initializer": serialize(self.norm_beta_initializer),
                "norm_epsilon": self.norm_epsilon}
