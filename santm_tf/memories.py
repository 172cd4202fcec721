"""The kinds of external memory that SANTM's top level can have.

A memory is a Keras cell. Beside what Keras asks of a cell it has

- `run(m, a, state, keep, steps) -> (visits, state)`, a whole sequence at once: m `[S, B, d]`, the gate a
  `[S, B, 1]`, a named state or None for the first, what to `Keep`. The visits answer `recalled(attention)`
  (`[B, states, .]`), and know the vectors `read` and, if asked for, the `heads`;
- `bytes_kept(visits)` and `check_recall(attention)`;
- `by_segment`: True has `run` take `segment=`, h^m `[S, B, H]`, and m be `[m ; h]`;
- `state_class`, the named state; `goes_on`, from a state that is handed to it; `lite`, TensorFlow Lite has
  its operations; `erases`, what a write takes the place of, as `santm_tf.capacity` has it.

A further kind is one file with its cell, and its sizes here (docs/extending.md).
"""

import dataclasses
from typing import Any, ClassVar

from santm_tf.memory import MemoryCell, NTMCell
from santm_tf.sparse.cell import SparseMemoryCell
from santm_tf.sparse.key_value import KeyValueMemoryCell


@dataclasses.dataclass(frozen=True)
class Memory:
    """The sizes that SANTM asks of every kind of memory; a kind adds its own."""

    memory_slots: int = 32
    slot_width: int = 32
    read_heads: int = 1
    cell_class: ClassVar[type]

    def cell(self, units: int, **options: Any) -> NTMCell:
        """The memory's cell, with a controller of so many units."""
        return self.cell_class(units, **dataclasses.asdict(self), **options)


@dataclasses.dataclass(frozen=True)
class DenseMemory(Memory):
    """The sizes of a memory whose heads have weights over all slots. See `MemoryCell`.

    >>> from santm_tf import SANTM, DenseMemory
    >>> SANTM(8, memory=DenseMemory(memory_slots=16, slot_width=8)).memory.read_heads
    1
    """

    write_heads: int = 1
    shift_range: int = 1
    memory_init: str = "learned"
    addressing: str = "ntm"
    cell_class = MemoryCell


@dataclasses.dataclass(frozen=True)
class SparseMemory(Memory):
    """The sizes of a memory whose heads keep k weights each. See `santm_tf.sparse.cell.SparseMemoryCell`.

    >>> from santm_tf import SANTM, SparseMemory
    >>> SANTM(8, memory=SparseMemory(memory_slots=100_000, top_k=8)).memory.memory_init
    'constant'
    """

    write_heads: int = 1
    shift_range: int = 1
    memory_init: str = "constant"
    top_k: int = 4
    allocate: bool = True
    normaliser: str = "softmax"
    search: str = "auto"
    reads: str = "gather"
    cell_class = SparseMemoryCell


@dataclasses.dataclass(frozen=True)
class KeyValueMemory(Memory):
    """The sizes of a memory of keys and values. See `santm_tf.sparse.key_value.KeyValueMemoryCell`.

    >>> from santm_tf import SANTM, KeyValueMemory
    >>> SANTM(8, memory=KeyValueMemory(memory_slots=100_000, key_width=16)).memory.top_k
    4
    """

    key_width: int | None = None
    top_k: int = 4
    reads_on: bool = False
    cell_class = KeyValueMemoryCell


MEMORIES = {"dense": DenseMemory, "sparse": SparseMemory, "key_value": KeyValueMemory}
