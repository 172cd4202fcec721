"""Random numbers and weights, always the same ones."""

import numpy as np


def random(*shape, seed=0):
    """Standard normal numbers, float64."""
    return np.random.default_rng(seed).normal(size=shape)


def randomise(weights, scale=1.0, seed=0, masks=True):
    """Gives each weight random numbers of a seed of its own, from `seed` on; masks only if asked to."""
    for i, w in enumerate(weights):
        if masks or not w.name.split("/")[-1].startswith(("scores", "log_alpha")):
            w.assign(scale * random(*w.shape, seed=seed + i))


def draw(weights, scale=1.0, seed=1):
    """Gives the weights random numbers of one stream, in their order."""
    rng = np.random.default_rng(seed)
    for w in weights:
        w.assign(scale * rng.normal(size=w.shape))
