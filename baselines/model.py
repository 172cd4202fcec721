"""What a file of this folder says about its model."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Model:
    """A model of the registry.

    Args:
      make: gives the layer. Its arguments before the `*` are the model's options, which `train.py` takes as
        flags: their defaults, types, bounds and texts are read from its signature and docstring. After
        the `*` comes what the task and the run decide. By `**options: ntm.make` it takes all that `make` of
        `ntm` takes, too.
      cost: gives the `Cost` of a sequence, from sizes named as the options; or None, no formula.
      width: the option that sets how many weights the model has.
      multiple: an option of which the width has to be a multiple.
      finer: an option that sets the number of weights more finely than the width.
    """

    make: Callable
    cost: Callable | None = None
    width: str = "units"
    multiple: str | None = None
    finer: str | None = None
