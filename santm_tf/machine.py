"""What this machine has, so that what is too large for it is refused before it is made."""

import contextlib
import inspect
import math
import os

from santm_tf.errors import ArgumentError
from santm_tf.keras import keras

FLOAT = 4  # bytes
COPIES = 4  # of each weight in training: itself, its gradient, two moments


def memory():
    """The bytes of memory that there are.

    >>> memory() > 2**28
    True
    """
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def check_fits(what, needed, advice, each=""):
    """Raises an `ArgumentError` where the bytes that something needs are more than there are.

    >>> check_fits("a table", 2**70, "use fewer rows")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    santm_tf.errors.ArgumentError: a table takes 1.1e+12 GiB, and there are ... GiB; use fewer rows
    """
    if needed > (there := memory()):
        raise ArgumentError(f"{what} takes {needed / 2**30:.3g} GiB{each}, and there are "
                            f"{there / 2**30:.3g} GiB; {advice}")


@contextlib.contextmanager
def weights_fit():
    """Within it a layer makes no weight with which all that are made would not fit in training.

    >>> with weights_fit():
    ...     keras.layers.Dense(10**9).build([None, 10**9])  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    santm_tf.errors.ArgumentError: training 1,000,000,000,000,000,000 weights takes 1.49e+10 GiB, and ...
    """
    add, made = keras.layers.Layer.add_weight, 0
    order = inspect.signature(add)

    def counted(layer, *args, **kwargs):
        nonlocal made
        made += math.prod(order.bind(layer, *args, **kwargs).arguments.get("shape") or ())
        check_fits(f"training {made:,} weights", FLOAT * COPIES * made, "use smaller sizes")
        return add(layer, *args, **kwargs)

    keras.layers.Layer.add_weight = counted
    try:
        yield
    finally:
        keras.layers.Layer.add_weight = add
