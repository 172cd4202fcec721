"""Exclusive locks on files, which a process that is killed leaves to the next one."""

import fcntl


def lock(path, wait=True):
    """Locks a file, which is made if it is not there; closing it lets go.

    The system lets go when all have ended that hold it: this process and those that inherited the file. On a
    shared file system the lock holds between machines.

    Args:
      path: of the file, whose content stays. wait: for another that holds it.

    Returns:
      The open file; None where another holds it and `wait` is False.

    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder, lock(os.path.join(folder, "a")) as file:
    ...     lock(file.name, wait=False) is None
    True
    """
    file = open(path, "ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    except BaseException:
        file.close()
        raise
    return file
