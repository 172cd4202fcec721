"""The Neural Turing Machine that attends to a cache of its controller's states at each write."""

import tensorflow as tf

from santm_tf.analysis import counting
from santm_tf.baselines import uw_ntm
from santm_tf.baselines.model import Model
from santm_tf.keras import keras
from santm_tf.ops import product


@keras.saving.register_keras_serializable("baselines")
class CachedUniformWritingCell(uw_ntm.UniformWritingCell):
    """A block of L steps whose write starts from the best of the states that the controller passed.

    `d_j = h_{t-1-L+j}`,   j = 1, ..., L                                     the cache
    `alpha_tj = softmax_j(v^T tanh(W h_{t-1} + U d_j + V r_{t-1}))`          equation 9
    `a_t = sum_j alpha_tj d_j`                                               equation 10
    `s_t = NTM(x_t, s_{t-1})` with a_t in the place of h_{t-1}               algorithm 1

    Le, Tran and Venkatesh 2019 (arXiv 1901.01347), section 2.2.2. Every block starts with an empty cache.
    Our choices: W, U and V map to H numbers; a_t replaces the controller's h alone, its cell stays.
    Arguments, input, output and state: see `UniformWritingCell`.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.cuw_ntm import CachedUniformWritingCell
    >>> from santm_tf import Recurrent
    >>> blocks = tf.zeros([2, 3, 4, 5])  # three blocks of four steps
    >>> layer = Recurrent(CachedUniformWritingCell(8, memory_slots=6, slot_width=4), return_sequences=True)
    >>> layer(blocks).shape.as_list()
    [2, 3, 4, 12]
    """

    def build(self, input_shape):
        self.state_kernel = self.add_weight(name="state_kernel", shape=[self.units, self.units])
        self.cache_kernel = self.add_weight(name="cache_kernel", shape=[self.units, self.units])
        self.read_kernel = self.add_weight(name="read_kernel",
                                           shape=[self.read_heads * self.slot_width, self.units])
        self.score_kernel = self.add_weight(name="score_kernel", shape=[self.units, 1])
        super().build(input_shape)

    def kept(self, interval):
        return interval

    def _previous(self, hidden, read):
        now = hidden[-1] @ self.state_kernel + read @ self.read_kernel
        scores = product(tf.tanh(now + product(hidden, self.cache_kernel)), self.score_kernel)
        return tf.reduce_sum(tf.nn.softmax(scores, axis=0) * hidden, 0)


@keras.saving.register_keras_serializable("baselines")
class CachedUniformWritingNTM(uw_ntm.UniformWritingNTM):
    """An NTM with Cached Uniform Writing (Le, Tran and Venkatesh, ICLR 2019, arXiv 1901.01347).

    It is a `UniformWritingNTM` whose controller goes on at a write from what an attention over its states
    of the interval picks (`CachedUniformWritingCell` has the equations). The paper also takes intervals
    below the optimal one, the default, so that the model has to learn to overwrite.
    Arguments, input, output and errors: see `UniformWritingNTM`.

    >>> import tensorflow as tf
    >>> from santm_tf.baselines.cuw_ntm import CachedUniformWritingNTM
    >>> layer = CachedUniformWritingNTM(8, write_interval=4, memory_slots=6, slot_width=4)
    >>> layer(tf.zeros([2, 23, 3])).shape.as_list()
    [2, 8]
    """

    cell_class = CachedUniformWritingCell


def make(*, steps=None, **options: uw_ntm.make):
    """A `CachedUniformWritingNTM`, with the options of `uw_ntm`."""
    return CachedUniformWritingNTM.for_steps(steps, **options)


@counting.checked
def cost(features, units, steps, write_interval=None, memory_slots=32, slot_width=32, read_heads=1,
         write_heads=1, shift_range=1, return_sequences=False):
    """`uw_ntm + D (2 H^2 (L + 1) + 2 R W H + (5 L + 1) H + 5 L)` FLOPs.

    Each of the D writes attends to the L states that the controller passed since the last one.

    >>> cost(1, 32, steps=784).accesses == uw_ntm.cost(1, 32, steps=784).accesses
    True
    """
    interval = write_interval or uw_ntm.optimal_interval(steps, memory_slots)
    pick = (counting.dense(units, units, interval, bias=False)
            + counting.dense(units, 1, interval, bias=False)
            + counting.dense(units + read_heads * slot_width, units, bias=False)
            + counting.Cost((3 * interval + 1) * units + 5 * interval) + counting.state(interval * units))
    return (uw_ntm.cost(features, units, steps, interval, memory_slots, slot_width, read_heads, write_heads,
                        shift_range, return_sequences)
            + steps // interval * pick)


MODEL = Model(make, cost)
