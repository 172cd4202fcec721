"""The equations of docs/equations.md in plain NumPy float64, one sequence at a time."""

from types import SimpleNamespace

import numpy as np

EPSILON = 1e-6  # inside the roots of the norms, and of the logarithm that sharpens


def weights(layer):
    """A layer's own variables by name, in float64."""
    return SimpleNamespace(**{
        v.name.split("/")[-1].removesuffix(":0"): v.numpy().astype(np.float64)
        for v in layer.weights})


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(0, x)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def hard_concrete(s, noise=None):
    """The gate of Louizos et al. 2018, equations 10 to 13."""
    return np.clip(sigmoid(s if noise is None else (s + noise) / (2 / 3)) * 1.2 - 0.1, 0, 1)


def lstm(x, h, c, w):
    """`(h', c')` of one LSTM step, gates in Keras' order i, f, g, o."""
    i, f, g, o = np.split(x @ w.kernel + h @ w.recurrent_kernel + w.bias, 4)
    c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
    return sigmoid(o) * np.tanh(c), c


def similarity(key, slot):
    return key @ slot / np.sqrt((key @ key + EPSILON) * (slot @ slot + EPSILON))


def shift(weights, shifts):
    """`sum_j w_j s_{i-j}`, by its definition."""
    reach, slots = len(shifts) // 2, len(weights)
    result = np.zeros(slots)
    for i in range(slots):
        for offset in range(-reach, reach + 1):
            result[i] += weights[(i - offset) % slots] * shifts[offset + reach]
    return result


def sharpen(weights, gamma):
    powers = (weights + EPSILON) ** gamma
    return powers / powers.sum()


def address(head, memory, previous):
    """The weights of one head over the slots, from its raw outputs."""
    width = memory.shape[1]
    key, (beta, gate), moves, gamma = np.split(head, [width, width + 2, len(head) - 1])
    content = softmax(softplus(beta) * np.array([similarity(np.tanh(key), m) for m in memory]))
    gate = sigmoid(gate)
    mixed = gate * content + (1 - gate) * previous
    return sharpen(shift(mixed, softmax(moves)), 1 + softplus(gamma))


def write(memory, weights, erase, add):
    """All heads erase, then all heads add."""
    memory = memory.copy()
    for w, e in zip(weights, erase, strict=True):
        memory *= 1 - np.outer(w, e)
    for w, a in zip(weights, add, strict=True):
        memory += np.outer(w, a)
    return memory


def first_state(cell):
    """The memory cell's state before the first step."""
    w = weights(cell)
    memory = (np.tanh(w.initial_memory) if cell.memory_init == "learned"
              else np.full([cell.memory_slots, cell.slot_width], 1e-6))
    addresses = np.array([softmax(row) for row in w.initial_weights])
    return SimpleNamespace(
        h=np.zeros(cell.units), c=np.zeros(cell.units), read=np.tanh(w.initial_read),
        read_weights=addresses[:cell.read_heads], write_weights=addresses[cell.read_heads:],
        memory=memory)


def ntm(cell, x, state):
    """One step of the Neural Turing Machine."""
    w = weights(cell)
    reads, writes, width = cell.read_heads, cell.write_heads, cell.slot_width
    h, c = lstm(np.concatenate([x, state.h, state.read.ravel()]), np.zeros(0), state.c,
                SimpleNamespace(kernel=np.concatenate([w.kernel, w.recurrent_kernel]),
                                recurrent_kernel=np.zeros([0, 4 * cell.units]), bias=w.bias))
    raw = np.clip(h @ w.head_kernel + w.head_bias, -20, 20)
    size = width + 2 * cell.shift_range + 4
    heads, erase, add = np.split(raw, [(reads + writes) * size, len(raw) - writes * width])
    previous = np.concatenate([state.read_weights, state.write_weights])
    now = np.array([address(head, state.memory, before) for head, before in
                    zip(heads.reshape(-1, size), previous, strict=True)])
    memory = write(state.memory, now[reads:], sigmoid(erase.reshape(writes, width)),
                   np.tanh(add.reshape(writes, width)))
    return SimpleNamespace(h=h, c=c, read=now[:reads] @ state.memory, read_weights=now[:reads],
                           write_weights=now[reads:], memory=memory)


def neighbours(slots, locality):
    """Who sees whom on the ring, by walking it."""
    result = np.zeros([slots, slots], bool)
    for i in range(slots):
        for n in range(1, locality + 1):
            result[i, (i + n) % slots] = result[i, (i - n) % slots] = True
    return result & ~np.eye(slots, dtype=bool)


def attention_matrices(layer, memory):
    """A^ of each head, `D^{-1/2} exp(S) D^{-1/2}` as it stands, and each head's V."""
    slots, width = memory.shape
    size = width // layer.heads
    joined = memory @ weights(layer).qkv_kernel
    near = neighbours(slots, layer.locality)
    matrices, values = [], []
    for head in range(layer.heads):
        q, k, v = (joined[:, n * width + head * size:n * width + (head + 1) * size]
                   for n in range(3))
        e = np.exp((q @ k.T + k @ q.T) / (2 * np.sqrt(size))) * near
        root = np.diag(1 / np.sqrt(e.sum(1)))
        matrices.append(root @ e @ root)
        values.append(v)
    return matrices, values


def cheb_attention(layer, memory):
    w = weights(layer)
    heads = []
    for head, (a, v) in enumerate(zip(*attention_matrices(layer, memory), strict=True)):
        polynomials = [np.eye(len(a)), -a]
        for _ in range(layer.order):
            polynomials.append(2 * -a @ polynomials[-1] - polynomials[-2])
        heads.append(sum(polynomials[k] @ v @ w.theta[k, head] for k in range(layer.order)))
    z = memory + np.concatenate(heads, 1) @ w.output_kernel
    return z + np.maximum(z @ w.hidden_kernel + w.hidden_bias, 0) @ w.feed_kernel + w.feed_bias


def santm(layer, x, mask=None):
    """SANTM over one sequence `[T, d]`, step by step: y at every step `[T, units]`.

    A masked step holds everything, and its row repeats the one before.
    """
    units = layer.units
    bottom, middle, access = (weights(v) for v in (layer.bottom, layer.middle, layer.access))
    readout = weights(layer.readout)
    h = c = h_middle = c_middle = np.zeros(units)
    state = first_state(layer.top)
    y, rows = np.zeros(units), []
    for t in range(len(x)):
        if mask is None or mask[t]:
            p = sigmoid(x[t] @ bottom.boundary_kernel + c @ bottom.boundary_recurrent_kernel
                        + bottom.boundary_bias)
            h, c = lstm(x[t], h, c, bottom)
            if p > 0.5:
                c = np.zeros(units)
                h_middle, c_middle = lstm(h, h_middle, c_middle, middle)
            if layer.access.adaptive:
                s = np.concatenate([h_middle, h]) @ access.kernel[:, 0] + access.bias[0]
                a, delta = (p > 0.5) * hard_concrete(s), 1
            else:
                at = t % len(access.scores)
                a, delta = float(access.scores[at] > 0), access.step_weight[at]
            if a > 0:
                new = ntm(layer.top, a * delta * h_middle, state)
                state = SimpleNamespace(**{name: a * v + (1 - a) * getattr(state, name)
                                           for name, v in vars(new).items()})
            if layer.recall is None:
                o = state.read.ravel()
            else:
                recalled = cheb_attention(layer.recall, state.memory)
                o = np.concatenate([(state.read_weights @ recalled).ravel(), recalled.mean(0)])
            # h^m and not m: at a step that is off the output would lose it.
            y = np.concatenate([h, h_middle, o]) @ readout.kernel + readout.bias
        rows.append(y)
    return np.array(rows)
