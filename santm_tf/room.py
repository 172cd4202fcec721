"""How much memory a SANTM's external memory takes."""

import os

from santm_tf.errors import ArgumentError

_FLOAT = 4


def dense(slots, width, visits, heads):
    """Bytes that training on one sequence keeps: the memory and the heads' weights at each visited step.

    >>> dense(slots=32, width=32, visits=784, heads=2) / 2**20
    3.25390625
    """
    return _FLOAT * visits * slots * (width + heads)


def sparse(slots, width, visits, writes, learned):
    """The same of `memory="sparse"`: three integers a slot, the rows that are written and their gradient.

    A learned memory has its weights, their gradient and two moments of them beside. Not counted is what
    does not grow with N or the number of writes.

    >>> sparse(slots=2**20, width=32, visits=100, writes=5, learned=False) / 2**20
    12.1220703125
    """
    rows = 4 * slots * learned + 2 * visits * writes
    return _FLOAT * (3 * slots + rows * width)


def check(layer, needed, slots):
    """Raises where the bytes that a layer needs are more than this machine has.

    Raises:
      ValueError: in one line, with both.
    """
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > there:
        raise ArgumentError(
            f"{layer}: memory_slots={slots} takes {needed / 2**30:.3g} GiB for one sequence, and there "
            f"are {there / 2**30:.3g} GiB; use fewer, a lower access rate, or memory='sparse' with "
            "memory_init='constant'")
