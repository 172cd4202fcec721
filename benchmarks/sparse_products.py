"""`tf.sparse` against what stands beside it: the ChebNet filter on large slot graphs, and sparse reads.

`python -m benchmarks.sparse_products`: plain `tf.function`, as XLA has no kernel for `tf.sparse` products.
Filter: `ChebAttention`, all slots of a batch at least 4,096, width 32, 4 heads, order 3. Reads: R rows of k
weights over rows of width 32, a hundred times. Cell: `SparseMemoryCell` of 32 units over 100 steps, B=32.
Train is forward and backward, eager is forward without a `tf.function`. Ratios are to the banded form, and to
the gathers.
"""

from benchmarks import harness

SLOTS_IN_ALL, WIDTH, STEPS = 4096, 32, 100
GRAPHS = [(32, 1), (32, 4), (256, 1), (256, 4), (256, 16), (1024, 4), (1024, 16), (1024, 64), (4096, 1),
          (4096, 4), (4096, 16), (4096, 64), (65536, 1), (65536, 4), (65536, 16)]
READS = [(32, 4), (256, 4), (3200, 4), (128, 64), (1, 65536)]
PHASES = "forward", "train"
DENSE_UP_TO = 1024


def _normal(*shape):
    import tensorflow as tf

    return tf.random.stateless_normal(shape, [0, len(shape)])


def _timed(function, inputs, weights, phase, times=1):
    """A step that calls a function, and for "train" takes its gradient, too."""
    import tensorflow as tf

    def run(inputs):
        if phase != "train":
            return function(*inputs)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            loss = tf.reduce_mean(function(*inputs) ** 2)
        return tf.nest.flatten(tape.gradient(loss, [inputs, weights]))[0]

    if phase != "eager":
        run = tf.function(run, autograph=False)

    def step():
        for _ in range(times):
            found = run(inputs)
        return found.numpy()

    return step, {}


def _filter(slots, locality, form, phase):
    def case():
        import santm_tf

        layer = santm_tf.ChebAttention(locality=locality, form=form)
        memory = _normal(max(1, SLOTS_IN_ALL // slots), slots, WIDTH)
        layer.build(memory.shape)
        return _timed(layer, [memory], layer.trainable_weights, phase)

    return case


def _reads(rows, kept, by, phase):
    def case():
        from santm_tf.sparse import read

        return _timed(lambda values, rows: read(values, rows, by == "sparse"),
                      [_normal(rows, kept), _normal(rows, kept, WIDTH)], [], phase, times=100)

    return case


def _cell(by, phase):
    def case():
        import tensorflow as tf

        from santm_tf.sparse_memory import SparseMemoryCell

        cell = SparseMemoryCell(WIDTH, memory_slots=1024, slot_width=WIDTH, reads=by)
        m = _normal(STEPS, 32, WIDTH)
        cell.build([m.shape[1:], [32, 1]])
        return _timed(lambda m: cell.run(m, tf.ones([STEPS, 32, 1]))[0].read, [m], cell.trainable_weights,
                      phase)

    return case


CASES = {
    **{f"filter N={slots} w={locality}, {phase}, {form}": _filter(slots, locality, form, phase)
       for slots, locality in GRAPHS for phase in PHASES for form in ("banded", "sparse", "dense")
       if form != "dense" or slots <= DENSE_UP_TO},
    **{f"read R={rows} k={kept}, {phase}, {by}": _reads(rows, kept, by, phase)
       for rows, kept in READS for phase in (*PHASES, "eager") for by in ("gather", "sparse")},
    **{f"cell, {phase}, {by}": _cell(by, phase) for phase in PHASES for by in ("gather", "sparse")},
}


def _baseline(case):
    kind, phase, _ = case.split(", ")
    return f"{kind}, {phase}, {'banded' if kind.startswith('filter') else 'gather'}"


if __name__ == "__main__":
    harness.main("sparse_products", CASES, _baseline, bases="banded* and *gather")
