"""How often to access the memory: the capacity of an idealised controller and memory.

`python -m santm_tf.capacity --steps=784 --slots=32 --retention=0.99` prints the optimal access rate and
draws the curve.
"""

import argparse
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike


def _geometric(loss, count):
    """sum_{i<count} (1 - loss)^i = (1 - (1 - loss)^count) / loss, and `count` where loss is 0.

    It takes what is lost, 1 - q, and not the factor q, which would round small losses away.
    """
    loss, count = np.broadcast_arrays(np.float64(loss), np.float64(count))
    with np.errstate(divide="ignore", invalid="ignore"):
        total = -np.expm1(count * np.log1p(-loss)) / loss
    return np.where(loss == 0, count, total)


def recallable(steps: ArrayLike, accesses: ArrayLike, retention: ArrayLike, slots: ArrayLike,
               erases: str = "share", lags: ArrayLike | None = None) -> np.ndarray | np.float64:
    """What can be recalled after T steps with D accesses at equal gaps, in steps' worth.

    I(D) = G(T/D) sum_{n<D} kept(n),   G(g) = (1 - lambda^g) / (1 - lambda)
    I(D) = G(T/D) D mean_l kept(l D/T),   where what came l steps ago is asked for

    The controller takes in 1 a step and keeps a factor lambda of what it holds. An access writes what came
    in since the one before: G(T/D), which is T/D at lambda = 1. kept(n) is what n later writes leave of it.
    A write that erases a share of every slot leaves `mu^n`, mu = 1 - 1/N: their sum is
    `(1 - mu^D) / (1 - mu)`. A write that takes the oldest slot leaves the last N writes whole:
    `min(D, N)`. Between whole n, kept is the mean over where the gaps may lie. I is at most T, reached where
    nothing is lost.

    Gaps g_1 ... g_D that sum to T hold sum_i G(g_i) mu^{D-i}. G is concave, so equal gaps are the best where
    mu^{D-1} >= lambda. Elsewhere short gaps first hold more, as early writes fade. Averaged over the orders
    of its gaps no schedule holds more than equal gaps.

    Args:
      steps: T, at least 1. accesses: D, from 1 to T. retention: lambda, from 0 to 1.
      slots: N, at least 1; `np.inf` for a memory that forgets nothing.
      erases: "share" or "oldest", what a write takes the place of.
      lags: `[L]`, the distances l in steps at which the task asks, each as often; above 0. By default all
        that was written is asked for at the end.

    Returns:
      I, float64, of the shape to which the arguments but `lags` broadcast.

    Raises:
      ValueError: an argument out of its range.

    >>> float(recallable(steps=4, accesses=2, retention=0.5, slots=2))
    2.25
    >>> recallable(steps=100, accesses=[1, 10, 100], retention=1.0, slots=np.inf)
    array([100., 100., 100.])
    >>> recallable(steps=50, accesses=[20, 25, 30], retention=0.0, slots=16, erases="oldest", lags=[30])
    array([20., 25.,  0.])
    """
    steps, accesses, retention, slots = map(np.float64, (steps, accesses, retention, slots))
    if not np.all(steps >= 1):
        raise ValueError(f"steps must be at least 1, got {steps}")
    if not np.all((1 <= accesses) & (accesses <= steps)):
        raise ValueError(f"accesses must be between 1 and steps={steps}, got {accesses}")
    if not np.all((0 <= retention) & (retention <= 1)):
        raise ValueError(f"retention must be between 0 and 1, got {retention}")
    if not np.all(slots >= 1):
        raise ValueError(f"slots must be at least 1, got {slots}")
    if erases not in ("share", "oldest"):
        raise ValueError(f"erases must be share or oldest, got {erases}")
    taken_in = _geometric(1 - retention, steps / accesses)
    if lags is None:
        kept = _geometric(1 / slots, accesses) if erases == "share" else np.minimum(accesses, slots)
        return taken_in * kept
    if not np.all(np.float64(lags) > 0):
        raise ValueError(f"lags must be above 0, got {lags}")
    since = np.float64(lags) * (accesses / steps)[..., None]
    return taken_in * accesses * np.mean(_kept(since, slots[..., None], erases), -1)


def _kept(count, slots, erases):
    """What so many later writes leave of a write."""
    if erases == "oldest":  # of a count between n and n + 1 writes: n, or n + 1, as the gaps happen to lie
        return np.clip(slots - count, 0.0, 1.0)
    with np.errstate(divide="ignore"):
        return np.exp(count * np.log1p(-1 / slots))


def optimal_accesses(steps: int, retention: float, slots: float, erases: str = "share",
                     lags: ArrayLike | None = None) -> int:
    """D* = argmax_D I(D) over D = 1 ... T, the fewest where several are equal in double precision.

    A memory that forgets nothing wants an access at every step. A controller that forgets nothing wants one,
    at the end. Where a write takes the oldest slot, it is D* = N; what is asked for after l steps wants
    D* = (N - 1) T / l. Arguments and errors as in `recallable`.

    >>> optimal_accesses(784, retention=0.9, slots=np.inf)
    784
    >>> optimal_accesses(784, retention=1.0, slots=32)
    1
    >>> optimal_accesses(784, retention=0.9, slots=32, erases="oldest")
    32
    """
    counts = np.arange(1, max(steps, 1) + 1)
    held = recallable(steps, counts, retention, slots, erases, lags)
    return 1 + int(np.argmax(held >= held.max() * (1 - 8 * np.finfo(np.float64).eps)))


def optimal_access_rate(steps: int, retention: float, slots: float, erases: str = "share",
                        lags: ArrayLike | None = None) -> float:
    """rho* = D* / T; arguments and errors as in `recallable`.

    >>> round(optimal_access_rate(784, retention=0.95, slots=32), 3)
    0.046
    """
    return optimal_accesses(steps, retention, slots, erases, lags) / steps


def curve(steps: int, retention: float, slots: float, erases: str = "share", lags: ArrayLike | None = None,
          points: int = 16, width: int = 50) -> str:
    """I over the access rate as lines of text, at rates from 1/T to 1 that are equal factors apart.

    >>> print(curve(steps=8, retention=0.5, slots=2, points=3, width=10))
    access rate  recallable
          0.125        1.99  #######
          0.375        2.95  ##########
          1.000        1.99  #######
    """
    accesses = np.unique(np.rint(np.geomspace(1, steps, points)))
    held = recallable(steps, accesses, retention, slots, erases, lags)
    bars = ["#" * round(width * share) for share in held / (held.max() or 1)]
    lines = (f"{rate:11.3f}{value:12.2f}  {bar}"
             for rate, value, bar in zip(accesses / steps, held, bars, strict=True))
    return "\n".join(["access rate  recallable", *lines])


def main(argv: Sequence[str] | None = None) -> None:
    """Prints the best access rate: `santm-capacity --steps=784 --slots=32 --retention=0.99`."""
    parser = argparse.ArgumentParser(prog="santm-capacity",
                                     description="The access rate at which an idealised memory holds most.")
    parser.add_argument("--steps", type=int, required=True, help="T, the length of a sequence")
    parser.add_argument("--slots", type=float, required=True, help="N, the memory's slots (inf: no limit)")
    parser.add_argument("--retention", type=float, required=True,
                        help="lambda, in [0, 1]: what the controller keeps of its state in one step")
    parser.add_argument("--erases", choices=("share", "oldest"), default="share",
                        help="what a write takes the place of: a share of every slot, or the oldest one, as "
                             "in memory='key_value'")
    parser.add_argument("--lags", type=float, nargs="+", metavar="STEPS",
                        help="how many steps after it came a thing is asked for (default: all at the end)")
    sizes = vars(parser.parse_args(argv))
    try:
        best = optimal_accesses(**sizes)
    except ValueError as error:
        parser.error(f"--{error}")
    held = float(recallable(accesses=best, **sizes))
    print(f"optimal access rate {best / sizes['steps']:.4g}: {best} accesses in {sizes['steps']} steps, one "
          f"each {sizes['steps'] / best:.3g}; {held:.4g} steps' worth can be recalled\n")
    print(curve(**sizes))


if __name__ == "__main__":
    main()
