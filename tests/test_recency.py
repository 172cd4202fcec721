"""The order of last accesses, against a list."""

import hypothesis
import hypothesis.strategies as st
import numpy as np
import tensorflow as tf

from santm_tf.sparse.recency import Recency


@hypothesis.settings(max_examples=30, deadline=None)
@hypothesis.given(batch=st.integers(1, 3), slots=st.integers(1, 6), steps=st.integers(0, 5), data=st.data())
def test_it_is_the_order_of_last_accesses(batch, slots, steps, data):
    order = Recency.start(batch, slots, 2 * steps, slots)
    lists = [list(range(slots)) for _ in range(batch)]
    for _ in range(steps):
        accessed = np.array(data.draw(st.lists(st.lists(st.integers(0, slots - 1), min_size=2, max_size=2),
                                               min_size=batch, max_size=batch)), np.int32)
        active = np.array(data.draw(st.lists(st.booleans(), min_size=batch, max_size=batch)))
        order = order.accessed(tf.constant(accessed), tf.constant(active))
        for own, row, on in zip(lists, accessed, active, strict=True):
            for slot in row[:2 * on]:
                own.remove(slot)
                own.append(slot)
        np.testing.assert_array_equal(order.least_recent(slots), lists)
    np.testing.assert_array_equal(order.of_each(), lists)
    again = Recency.of(order.of_each(), 0, slots)
    np.testing.assert_array_equal(again.least_recent(slots), lists)
