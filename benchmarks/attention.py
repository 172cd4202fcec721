"""`ChebAttention`, dense against banded: forward and backward over 4,096 slots of 32 in all.

`python -m benchmarks.attention` gives the sizes from which the banded form is the cheaper one.
"""

from benchmarks import harness

SLOTS_IN_ALL, WIDTH = 4096, 32


def _attention(slots, locality, form):
    def case():
        import santm_tf  # noqa: I001
        import tensorflow as tf

        layer = santm_tf.ChebAttention(locality=locality, form=form)
        memory = tf.random.stateless_normal([SLOTS_IN_ALL // slots, slots, WIDTH], [0, 0])
        layer.build(memory.shape)

        @tf.function(jit_compile=True)
        def train(memory):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(layer(memory) ** 2)
            return loss, tape.gradient(loss, layer.trainable_weights)

        return lambda: float(train(memory)[0]), {"parameters": layer.count_params()}

    return case


CASES = {
    f"N={slots}, w={locality}, {form}": _attention(slots, locality, form)
    for slots in (32, 64, 128, 256, 512)
    for locality in (1, 4, 8)
    for form in ("dense", "banded")
    if 2 * locality < slots
}

if __name__ == "__main__":
    harness.main("attention", CASES, "N=32, w=4, dense")
