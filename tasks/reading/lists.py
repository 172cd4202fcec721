"""Tables whose rows are sequences and whose cells are lists, one value a step: read as a row a step."""

import numpy as np

from santm_tf.errors import extra
from santm_tf.tasks.errors import TaskError

ROW = "row number"  # the column, from 0, that says which steps are of one sequence


def unrolled(table, path, before=0):
    """A table with a row a step, the names of the columns that had lists, and how many lists are empty.

    A table without lists stays as it is.

    Args:
      table: of pyarrow. path: its file. before: rows of the file that are above it.

    Raises:
      TaskError: the row whose lists differ in length.

    >>> import pyarrow as pa
    >>> unrolled(pa.table({"x": [[1, 2], [], [3]], "label": ["a", "b", "c"]}), "")[0].to_pydict()
    {'x': [1, 2, 3], 'label': ['a', 'a', 'c'], 'row number': [0, 0, 2]}
    """
    with extra("data"):
        import pyarrow as pa
        import pyarrow.compute as pc
    kinds = pa.types
    names = tuple(field.name for field in table.schema if kinds.is_list(field.type)
                  or kinds.is_large_list(field.type) or kinds.is_fixed_size_list(field.type))
    if not names:
        return table, (), 0
    first, *others = (pc.fill_null(pc.list_value_length(table[name]), 0).to_numpy() for name in names)
    for name, lengths in zip(names[1:], others, strict=True):
        if (wrong := np.flatnonzero(lengths != first)).size:
            row = wrong[0]
            raise TaskError(f"{path}, row {before + row + 1}: {name} has {lengths[row]} steps and {names[0]} "
                            f"has {first[row]}; the lists of a row need as many")
    row = np.repeat(np.arange(len(table)), first)
    columns = {name: pc.list_flatten(table[name]) if name in names else table[name].take(pa.array(row))
               for name in table.column_names}
    return pa.table(columns | {ROW: before + row}), names, int((first == 0).sum())
