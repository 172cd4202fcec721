"""A train step of the NTM against the same NTM stepped in PyTorch.

`python -m benchmarks.ntm`: forward and backward at B=64, T=784, 32 units, 32 x 32 memory, one input
feature, the output at the last step. PyTorch's steps are many small operations: with a thread a core
they wait for each other, up to tens of seconds where anything else runs, and one thread alone is
faster. Both are timed; few steps each, since the slow one may take minutes.
"""

import functools
import math
import sys

from benchmarks import harness

BATCH, STEPS, UNITS, SLOTS, WIDTH, REACH = 64, 784, 32, 32, 32, 1
EPSILON = 1e-6  # of santm_tf.addressing


def _ours(module, name):
    def case():
        import importlib  # noqa: I001

        import santm_tf  # noqa: F401
        import tensorflow as tf

        layer = getattr(importlib.import_module(f"santm_tf.baselines.{module}"), name)(
            UNITS, memory_slots=SLOTS, slot_width=WIDTH, shift_range=REACH)
        x = tf.random.stateless_normal([BATCH, STEPS, 1], [0, 0])
        layer.build(x.shape)

        @tf.function
        def train(x):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean(tf.square(layer(x, training=True)))
            return loss, tape.gradient(loss, layer.trainable_weights)

        return lambda: float(train(x)[0]), {"parameters": layer.count_params()}

    return case


def torch_ntm(x, w):
    """`[h_t ; r_t]` at every step, `[B, T, H + R W]`: NTMCell's equations, one step after another.

    Args:
      x: `[B, T, d]`.
      w: NTMCell's weights by name, as tensors; the memory starts at 1e-6.
    """
    import torch
    from torch.nn.functional import softplus

    batch, units = len(x), w["head_kernel"].shape[0]
    reads, width = w["initial_read"].shape
    heads, slots = w["initial_weights"].shape
    writes = heads - reads
    size = (w["head_kernel"].shape[1] - 2 * writes * width) // heads
    reach = (size - width - 4) // 2
    h = c = x.new_zeros(batch, units)
    read = torch.tanh(w["initial_read"]).expand(batch, -1, -1)
    weights = torch.softmax(w["initial_weights"], -1).expand(batch, -1, -1)
    memory = x.new_full([batch, slots, width], 1e-6)
    outputs = []
    for z in (x @ w["kernel"] + w["bias"]).unbind(1):
        z = z + torch.cat([h, read.flatten(1)], -1) @ w["recurrent_kernel"]
        i, f, g, o = z.chunk(4, -1)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        raw = torch.clamp(h @ w["head_kernel"] + w["head_bias"], -20.0, 20.0)
        head, erase, add = raw.split([heads * size, writes * width, writes * width], -1)
        key, strength, gate, moves, gamma = head.view(batch, heads, size).split(
            [width, 1, 1, 2 * reach + 1, 1], -1)
        key, gate, moves = torch.tanh(key), torch.sigmoid(gate), torch.softmax(moves, -1)
        similarity = (key @ memory.transpose(1, 2)
                      * torch.rsqrt((key * key).sum(-1, keepdim=True) + EPSILON)
                      * torch.rsqrt((memory * memory).sum(-1) + EPSILON)[:, None])
        content = torch.softmax(softplus(strength) * similarity, -1)
        mixed = gate * content + (1 - gate) * weights
        shifted = sum(moves[..., n:n + 1] * mixed.roll(n - reach, -1) for n in range(2 * reach + 1))
        weights = torch.softmax((1 + softplus(gamma)) * torch.log(shifted + EPSILON), -1)
        read, write = weights[:, :reads] @ memory, weights[:, reads:]
        erase = torch.sigmoid(erase.view(batch, writes, width))
        add = torch.tanh(add.view(batch, writes, width))
        for n in range(writes):
            memory = memory * (1 - write[:, n, :, None] * erase[:, n, None])
        memory = memory + write.transpose(1, 2) @ add
        outputs.append(torch.cat([h, read.flatten(1)], -1))
    return torch.stack(outputs, 1)


def _torch(threads=None):
    import torch

    if threads:
        torch.set_num_threads(threads)
    head = WIDTH + 2 * REACH + 4
    shapes = {"kernel": [1, 4 * UNITS], "recurrent_kernel": [UNITS + WIDTH, 4 * UNITS],
              "bias": [4 * UNITS], "head_kernel": [UNITS, 2 * head + 2 * WIDTH],
              "head_bias": [2 * head + 2 * WIDTH], "initial_read": [1, WIDTH],
              "initial_weights": [2, SLOTS], "readout": [UNITS + WIDTH, UNITS], "readout_bias": [UNITS]}
    w = {name: torch.nn.Parameter(torch.randn(shape) / math.sqrt(shape[0]))
         for name, shape in shapes.items()}
    x = torch.randn(BATCH, STEPS, 1)

    def step():
        for v in w.values():
            v.grad = None
        y = torch_ntm(x, w)[:, -1] @ w["readout"] + w["readout_bias"]
        loss = (y ** 2).mean()
        loss.backward()
        return float(loss)

    return step, {"parameters": sum(v.numel() for v in w.values())}


CASES = {
    "NTM": _ours("ntm", "NTM"),
    "UniformWritingNTM": _ours("uw_ntm", "UniformWritingNTM"),
    "CachedUniformWritingNTM": _ours("cuw_ntm", "CachedUniformWritingNTM"),
    "PyTorch, step by step": _torch,
    "PyTorch, step by step, one thread": functools.partial(_torch, threads=1),
}

if __name__ == "__main__":
    harness.main("ntm", CASES, "NTM", ["--repeats=2", *sys.argv[1:]])
