"""The DRR LSTM: dynamic recurrent routes and low-rank maps."""

from typing import Annotated

import numpy as np
import tensorflow as tf

from santm_tf import Recurrent
from santm_tf.analysis import counting
from santm_tf.baselines.layer import Configured
from santm_tf.baselines.lstm import gate_bias, with_dropout
from santm_tf.baselines.model import Model
from santm_tf.errors import at_least
from santm_tf.keras import Cell, keras
from santm_tf.lstm import lstm
from santm_tf.ops import product


def sparse_simplex(scores, count):
    """The nearest point of the simplex with at most n entries above zero.

    `g = argmin_g ||g - e||^2  subject to  g >= 0, sum(g) = 1, ||g||_0 <= n`
    It projects the n largest scores on the simplex (Kyrillidis et al. 2013, arXiv 1206.1529, theorem 1).
    With n = k it is sparsemax (Martins and Astudillo 2016, arXiv 1602.02068). At a tie the first come
    first. The gradient is the projection's own: zero outside the entries above zero.

    Args:
      scores: e, `[..., k]`; the result has this shape.
      count: n.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.drr_lstm import sparse_simplex
    >>> sparse_simplex(tf.constant([1.0, 1.5, 0.9, -3.0]), 2).numpy().tolist()
    [0.25, 0.75, 0.0, 0.0]
    """
    # The projection does not depend on this shift. Without it huge scores would swallow the 1.
    scores -= tf.stop_gradient(tf.reduce_max(scores, -1, keepdims=True))
    lead = scores[..., :, None] - scores[..., None, :]  # of i over j
    earlier = np.triu(np.ones([scores.shape[-1]] * 2, bool), 1)
    before = (lead > 0) | ((lead == 0) & earlier)
    positive = tf.reduce_sum(tf.nn.relu(lead), -2) < 1  # j is above the threshold of all before it
    positive &= tf.reduce_sum(tf.cast(before, tf.int32), -2) < count
    size = tf.reduce_sum(tf.cast(positive, scores.dtype), -1, keepdims=True)
    threshold = (tf.reduce_sum(tf.where(positive, scores, 0), -1, keepdims=True) - 1) / size
    return tf.where(positive, scores - threshold, 0)


@keras.saving.register_keras_serializable("baselines")
class DRRLSTMCell(Configured, Cell):
    """An LSTM that continues from the states of its last k steps that it chooses, anew at each step.

    `g_t = sparse_simplex(x_t R_x + h_{t-1} R_h + b_r, n)`              the routes, n of k
    `(h^_t, c^_t) = sum_{j=1..k} g_{t,j} (h_{t-j}, c_{t-j})`
    `z_t = (x_t P_x + h^_t P_h) Q + b`                                  of rank r
    `h_t, c_t = LSTM(z_t; c^_t)`
    `loss += lambda / 2 (||P_x||^2 + ||P_h||^2 + ||Q||^2)`

    After Shan et al., "DRRNets: dynamic recurrent routing via low-rank regularization in recurrent
    neural networks", IEEE TNNLS 34(4), 2023, whose equations are not openly available. The parts are the
    paper's: dynamic routes, low-rank maps, a projection to sparsity. These equations are ours.

    States before the first step are zero. What lies s steps back can be `ceil(s / k)` routes away. Over
    all factors of `W = [P_x; P_h] Q` the least penalty is lambda times the nuclear norm of W, the convex
    stand-in for its rank (Srebro et al. 2004).

    Args:
      units: H. routes: k. rank: r (default `H / 2`). low_rank_penalty: lambda.
      active_routes: n >= 2, the most that one step takes; of a single one the router would learn nothing.
      memory_horizon: see `gate_bias`.

    Input `[B, d]`; output h, `[B, H]`; state `[B, k, 2 H]`, `(h, c)` of the last k steps, newest first.

    Raises:
      ArgumentError: a size too small, or a negative penalty.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.drr_lstm import DRRLSTMCell
    >>> from santm_tf import Recurrent
    >>> Recurrent(DRRLSTMCell(8, routes=3, rank=4))(tf.zeros([2, 5, 3])).shape.as_list()
    [2, 8]
    """

    def __init__(self, units, routes=4, rank=None, active_routes=2, low_rank_penalty=1e-5,
                 memory_horizon=None, **kwargs):
        rank = max(1, units // 2) if rank is None else rank
        super().__init__(dict(units=units, routes=routes, rank=rank, active_routes=active_routes,
                              low_rank_penalty=low_rank_penalty, memory_horizon=memory_horizon), **kwargs)
        at_least("DRRLSTM", 1, units=units, routes=routes, rank=rank)
        at_least("DRRLSTM", 2, active_routes=active_routes)
        at_least("DRRLSTM", 0, low_rank_penalty=low_rank_penalty)
        self.units, self.routes, self.rank = units, routes, rank
        self.active_routes, self.low_rank_penalty = active_routes, low_rank_penalty
        self.bias_initializer = gate_bias(units, memory_horizon)
        self.state_size = [tf.TensorShape([routes, 2 * units])]
        self.output_size = units

    def build(self, input_shape):
        features, units = input_shape[-1], self.units
        factor = {"regularizer": keras.regularizers.L2(self.low_rank_penalty / 2)}
        self.kernel = self.add_weight(name="kernel", shape=[features, self.rank], **factor)  # P_x
        self.recurrent_kernel = self.add_weight(name="recurrent_kernel", shape=[units, self.rank],
                                                **factor)  # P_h
        self.gate_kernel = self.add_weight(name="gate_kernel", shape=[self.rank, 4 * units], **factor)  # Q
        self.bias = self.add_weight(name="bias", shape=[4 * units], initializer=self.bias_initializer)
        self.route_kernel = self.add_weight(name="route_kernel", shape=[features, self.routes])
        self.route_recurrent_kernel = self.add_weight(name="route_recurrent_kernel",
                                                      shape=[units, self.routes])
        self.route_bias = self.add_weight(name="route_bias", shape=[self.routes], initializer="zeros")
        super().build(input_shape)

    def project(self, inputs):
        """`(x P_x, x R_x + b_r)` for any leading axes: what depends on the input alone."""
        return product(inputs, self.kernel), product(inputs, self.route_kernel) + self.route_bias

    def call(self, inputs, states, projected=False):
        low, score = inputs if projected else self.project(inputs)
        recent, = tf.nest.flatten(states)
        h = recent[:, 0, :self.units]
        route = sparse_simplex(score + h @ self.route_recurrent_kernel, self.active_routes)
        h, c = tf.split(tf.reduce_sum(route[:, :, None] * recent, 1), 2, -1)
        h, c = lstm((low + h @ self.recurrent_kernel) @ self.gate_kernel + self.bias, c)
        newest = tf.concat([h, c], -1)[:, None]
        return h, [tf.concat([newest, recent[:, :-1]], 1)]


def make(units: int = 32, routes: int = 4, rank: int | None = None, memory_horizon: int | None = None,
         dropout: Annotated[float, "[0, 1)"] = 0.0, *, return_sequences=False, seed=None, jit_compile=True):
    """`Recurrent` over a `DRRLSTMCell`, with dropout.

    Args:
      units: Units of the cell and of the output, H.
      routes: Among how many last states the cell picks.
      rank: Rank of the recurrent map (default: half the units).
      memory_horizon: Longest memory wanted of the gates at first, in steps (default: the plain forget bias).
      dropout: Share of features dropped before the output.
    """
    cell = DRRLSTMCell(units, routes, rank, memory_horizon=memory_horizon)
    return with_dropout(Recurrent(cell, return_sequences=return_sequences, jit_compile=jit_compile),
                        dropout, seed)


@counting.checked
def cost(features, units, steps, routes=4, rank=None):
    """`T (2 k (d + H) + 2 k + 6 k^2 + (4 k - 2) H + 2 r (d + H) + r + 8 r H + 24 H)` FLOPs.

    In this order: the router and its projection, the sum of k states, `P_x, P_h` and Q, the gates.

    >>> from santm_tf.analysis.cost import lstm
    >>> cost(1, 32, steps=1).flops < lstm(1, 32).flops
    True
    """
    rank = rank or max(1, units // 2)
    around = counting.Cost(routes + 6 * routes ** 2 + (4 * routes - 2) * units + rank + 20 * units)
    maps = (counting.dense(features + units, routes) + counting.dense(features + units, rank, bias=False)
            + counting.dense(rank, 4 * units))
    return steps * (maps + around + counting.state(2 * routes * units))


MODEL = Model(make, cost)
