"""Files and folders that are written whole, and those whose path TensorFlow takes for a pattern."""

import os

from santm_tf.errors import ArgumentError

ADVICE = r"TensorFlow reads * ? [ \ in a path as a pattern; name a folder without them"


def is_literal(path):
    r"""Whether TensorFlow reads a path as it stands. What is None is no path, and literal.

    Of a run in `[ab]` TensorFlow restores nothing, and old checkpoints are deleted in `a`, its neighbour.

    >>> is_literal("runs/lr=0.1,{2}"), is_literal("runs/lr=[0.1]"), is_literal("runs/*"), is_literal(r"a\b")
    (True, False, False, False)
    """
    return path is None or not set(os.fspath(path)) & set("*?[\\")


def literal(name, path):
    """Raises an `ArgumentError`, which names the argument and the path, for a path that is a pattern."""
    if not is_literal(path):
        raise ArgumentError(f"{name}={path}: {ADVICE}")


def write_whole(path, text):
    """Writes a file whole or not at all."""
    with open(path + ".new", "w") as file:
        file.write(text)
    os.replace(path + ".new", path)


def replace(folder, new, old):
    """Puts the folder `new` in the place of another, which becomes `old`; if that fails, puts it back."""
    try:
        if os.path.exists(folder):
            os.rename(folder, old)
        os.rename(new, folder)
    except BaseException:
        if os.path.exists(old) and not os.path.exists(folder):
            os.rename(old, folder)
        raise
