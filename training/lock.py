"""Exclusive locks on files, which a process that is killed leaves to the next one."""

import fcntl
import os
import platform


def lock(path, wait=True, holder=False):
    """Locks a file, which is made if it is not there; closing it lets go.

    The system lets go when all have ended that hold it: this process and those that inherited the file. On a
    shared file system the lock holds between machines.

    Args:
      path: of the file, whose content stays. wait: for another that holds it.
      holder: whether the file is there for the lock alone, and is to say who holds it, see `held_by`.

    Returns:
      The open file; None where another holds it and `wait` is False.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder, lock(os.path.join(folder, "a"), holder=True) as file:
    ...     lock(file.name, wait=False) is None, held_by(file.name).startswith("process ")
    (True, True)
    """
    file = open(path, "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        if holder:
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n".encode())
            file.flush()
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file


def held_by(path):
    """What a file that another process has locked as `holder` says of it."""
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.read(200).strip() or "another process"
