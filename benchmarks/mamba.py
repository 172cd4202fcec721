"""Mamba against mambapy (PyTorch), its own sequential form, and its own growth with T.

`python -m benchmarks.mamba`: forward and backward of 2 layers of width 32, 16 states, at B=16, T=1024;
at other T, where the work grows as T whatever its order; and at B=1 without XLA, where a step costs
the same however much it does: there the time shows how many steps follow one another.
"""

from benchmarks import harness

BATCH, STEPS, UNITS, LAYERS = 16, 1024, 32, 2


def _ours(batch=BATCH, steps=STEPS, **options):
    def case():
        import santm_tf  # noqa: F401, I001
        import tensorflow as tf

        from santm_tf.baselines.mamba import Mamba

        layer = Mamba(UNITS, LAYERS, return_sequences=True, **options)
        x = tf.random.stateless_normal([batch, steps, UNITS], [0, 0])
        layer.build(x.shape)

        @tf.function
        def train(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(layer(x, training=True) ** 2)
            return loss, tape.gradient(loss, layer.trainable_weights)

        return lambda: float(train(x)[0]), {"parameters": layer.count_params()}

    return case


def _mambapy(batch=BATCH, steps=STEPS):
    def case():
        import torch
        from mambapy.mamba import Mamba, MambaConfig

        layer = Mamba(MambaConfig(d_model=UNITS, n_layers=LAYERS))
        x = torch.randn(batch, steps, UNITS)

        def step():
            layer.zero_grad()
            loss = (layer(x) ** 2).mean()
            loss.backward()
            return float(loss)

        return step, {"parameters": sum(p.numel() for p in layer.parameters())}

    return case


CASES = {
    "Mamba": _ours(),
    "Mamba, sequential": _ours(chunk_length=None),
    "mambapy": _mambapy(),
    "Mamba without XLA": _ours(jit_compile=False),
    "Mamba, T=256": _ours(steps=256),
    "Mamba, T=4096": _ours(steps=4096),
}
for _steps in (256, 1024, 4096):
    CASES[f"Mamba without XLA, B=1, T={_steps}"] = _ours(1, _steps, jit_compile=False)
    CASES[f"Mamba without XLA, sequential, B=1, T={_steps}"] = _ours(
        1, _steps, chunk_length=None, jit_compile=False)

if __name__ == "__main__":
    harness.main("mamba", CASES, "Mamba")
