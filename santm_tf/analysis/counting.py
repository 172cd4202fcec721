"""FLOPs, accesses and bytes as numbers that add up, and those of a dense map and of a normalisation."""

import dataclasses
import functools
import inspect

from santm_tf.errors import ArgumentError, at_least

_RATES = ("access_rate", "boundary_rate", "update_rate")


@dataclasses.dataclass(frozen=True)
class Cost:
    """FLOPs, memory accesses and bytes; costs add up, and `steps * cost` is that of so many steps.

    Args:
      flops: floating-point operations.
      accesses: slots of an external memory that heads read or write. A dense head touches all N at
        each step that accesses the memory; the recall, outside the recurrence, is no access.
      bytes: what the steps that act move as float32, with no cache between steps: each weight read once;
        each number of the state, the external memory among it, read once and written once. Inputs,
        outputs and what lives within a step do not count. What is computed for all steps at once reads
        its weights once.

    >>> 3 * Cost(flops=10, accesses=1, bytes=4) + Cost(flops=1)
    Cost(flops=31, accesses=3, bytes=12)
    """

    flops: float = 0
    accesses: float = 0
    bytes: float = 0

    def __add__(self, other):
        return Cost(self.flops + other.flops, self.accesses + other.accesses, self.bytes + other.bytes)

    def __mul__(self, times):
        return Cost(self.flops * times, self.accesses * times, self.bytes * times)

    __rmul__ = __mul__


def checked(count):
    """`count`, refusing sizes below 1 and rates outside [0, 1]."""
    signature = inspect.signature(count)
    where = f"{count.__module__.split('.')[-1]}.{count.__name__}"

    @functools.wraps(count)
    def wrapper(*args, **kwargs):
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if name in _RATES and not 0 <= value <= 1:
                raise ArgumentError(f"{where}: {name}={value}; it must be in [0, 1]")
            if name not in _RATES and type(value) in (int, float):
                at_least(where, 0 if name == "shift_range" else 1, **{name: value})
        return count(*args, **kwargs)

    return wrapper


def dense(inputs, outputs, rows=1, bias=True):
    """`x W + b` on so many rows of numbers at once."""
    return Cost((2 * inputs + bias) * outputs * rows, bytes=4 * (inputs + bias) * outputs)


def state(numbers):
    """Numbers that a step reads and writes."""
    return Cost(bytes=8 * numbers)


def norm(width, rows=1):
    """Layer normalisation: mean, variance, and scale and offset, 9 a number."""
    return Cost(9 * width * rows, bytes=8 * width)
