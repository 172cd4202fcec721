"""Files and folders that are written whole, and those whose path TensorFlow takes for a pattern."""

import contextlib
import ctypes
import errno
import json
import os
import stat
import uuid

from santm_tf.errors import ArgumentError

ADVICE = r"TensorFlow reads * ? [ \ in a path as a pattern; name a folder without them"
_HERE, _EXCHANGE = -100, 2  # AT_FDCWD, RENAME_EXCHANGE


def is_literal(path):
    r"""Whether TensorFlow reads a path as it stands. What is None is no path, and literal.

    Of a run in `[ab]` TensorFlow restores nothing, and old checkpoints are deleted in `a`, its neighbour.

    >>> is_literal("runs/lr=0.1,{2}"), is_literal("runs/lr=[0.1]"), is_literal("runs/*"), is_literal(r"a\b")
    (True, False, False, False)
    """
    return path is None or not set(os.fspath(path)) & set("*?[\\")


def plain(name, path):
    r"""Raises an `ArgumentError`, which names the argument, for a path that is no text, or of no file.

    >>> plain("out", "a\0b")
    Traceback (most recent call last):
        ...
    santm_tf.errors.ArgumentError: out='a\x00b': has a character of code 0, which no path has; leave it out
    """
    text = os.fspath(path)
    if "\0" in text:
        raise ArgumentError(f"{name}={text!r}: has a character of code 0, which no path has; leave it out")
    try:
        os.stat(text.encode())
    except UnicodeEncodeError as error:
        raise ArgumentError(f"{name}={text!r}: the path is not in UTF-8; rename it") from error
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise ArgumentError(f"{name}={text[:40]}...: {error.strerror}; name a shorter path") from error


def literal(name, path):
    """Raises an `ArgumentError`, which names the argument and the path, for a path that is a pattern, or that
    is not `plain`.
    """
    if path is not None:
        plain(name, path)
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


def is_object_with(path, names):
    """Whether a file is there that holds a JSON object with these names, as files that this library wrote do.

    >>> is_object_with("/dev/null", {"format"})
    False
    """
    try:
        with open_file(path) as file:
            return names <= set(json.load(file))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def writable(path, folder=True, name=None):
    """Raises an `ArgumentError` for a path that could not be written; makes nothing.

    Args:
      path: of a folder, or of a file, that may be there or not. name: of the argument that gives it.

    >>> writable("/dev/null/a", name="out")
    Traceback (most recent call last):
        ...
    santm_tf.errors.ArgumentError: out=/dev/null/a: /dev/null is no folder; name another place
    """
    shown, at, wanted = f"{name}={path}" if name else path, os.path.abspath(path), folder
    while (mode := _mode(shown, at)) is None:
        at, wanted = os.path.dirname(at), True
    if stat.S_ISDIR(mode) != wanted:
        raise ArgumentError(f"{shown}: is a {'file' if folder else 'folder'}; name a "
                            f"{'folder' if folder else 'file'}" if at == os.path.abspath(path) else
                            f"{shown}: {at} is no folder; name another place")
    if not os.access(at, os.W_OK | os.X_OK * wanted):
        raise ArgumentError(f"{shown}: nothing can be written in {at}; name another place")


def _mode(shown, at):
    """What is at a part of a path; None for nothing."""
    try:
        return os.stat(at).st_mode
    except (FileNotFoundError, NotADirectoryError):
        if os.path.islink(at):
            raise ArgumentError(f"{shown}: {at} is a link to nothing; name another place") from None
        return None
    except OSError as error:
        raise ArgumentError(f"{shown}: {error.strerror}; name another place") from error


def sync(path):
    """Has the system write a file to the disk, so that it stays where the power fails."""
    with open(path, "rb+") as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def whole(path):
    """Gives the path of a new file beside another, in whose place it comes when it is written.

    So that file is written whole or not at all, also where the power fails. If writing fails, the new one is
    deleted, and what was there stays. The new one has a name that no other process has.
    """
    new = os.path.join(os.path.dirname(path), f".{uuid.uuid4().hex}.new")
    try:
        yield new
        sync(new)
        os.replace(new, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(new)
        raise


def write_whole(path, content):
    """Writes a file, of a text in UTF-8 or of bytes, whole or not at all; see `whole`."""
    with whole(path) as new, open(new, "xb") as file:
        file.write(content.encode() if isinstance(content, str) else content)


def replace(folder, new, old):
    """Puts the folder `new` in the place of another, then at `new` or `old`; if it fails, puts that back.

    Where the system can exchange two folders, one of them is there at any time.
    """
    if os.path.exists(folder) and _exchanged(folder, new):
        return
    try:
        if os.path.exists(folder):
            os.rename(folder, old)
        os.rename(new, folder)
    except BaseException:
        if os.path.exists(old) and not os.path.exists(folder):
            os.rename(old, folder)
        raise


def _exchanged(one, other):
    """Has two paths take each other's place in one step, by Linux' `renameat2`; False where there is none."""
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):
        return False
    return call(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0
