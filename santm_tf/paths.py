"""Files and folders that are written whole, and those whose path TensorFlow takes for a pattern."""

import errno
import os
import stat

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


def open_file(path):
    """A file opened for its bytes; what is none, such as a pipe or a device, raises an `OSError`.

    >>> open_file("/dev/zero")
    Traceback (most recent call last):
        ...
    OSError: [Errno 22] is no file, but a device or a pipe: '/dev/zero'
    """
    file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "is no file, but a device or a pipe", os.fspath(path))
    return file


def write_whole(path, content):
    """Writes a file of a text or of bytes, whole or not at all. A link is replaced, not what it names."""
    mode, encoding = ("wb", None) if isinstance(content, bytes) else ("w", "utf-8")
    with open(path + ".new", mode, encoding=encoding,
              opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW)) as file:
        file.write(content)
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
