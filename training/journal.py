"""Optuna's storage in a file that processes and machines share, and that survives their being killed."""

import os

from santm_tf.errors import extra
from santm_tf.training.errors import UsageError
from santm_tf.training.lock import lock

with extra("sweep"):
    import optuna

BEGINS = b'{"op_code":'


class FileLock:
    """A lock of `JournalFileBackend`: the journal itself is locked, so a killed process leaves no lock.

    Optuna's own locks are files beside the journal. Of a killed process they stay, and others wait for them.
    What such a process has written of a line is cut off.

    Args:
      path: of the journal.
    """

    def __init__(self, path):
        self.path, self.file = path, None

    def acquire(self):
        self.file = lock(self.path)
        _cut_torn_line(self.path)
        return True

    def release(self):
        self.file.close()


def storage(path):
    """Optuna's storage in a journal, which is made if it is not there.

    Raises:
      UsageError: the file is another one, or cannot be read or written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     study = optuna.create_study(storage=storage(f"{folder}/a.study"), study_name="first")
    ...     optuna.get_all_study_names(storage(f"{folder}/a.study"))
    ['first']
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        if os.path.exists(path) and not _is_journal(path):
            raise UsageError(f"--study={path}: holds something else; name another file")
        return optuna.storages.JournalStorage(
            optuna.storages.journal.JournalFileBackend(path, FileLock(path)))
    except OSError as error:
        raise UsageError(f"--study={path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--study={path}: damaged ({error}); name another file") from error


def _is_journal(path):
    """Whether a file is empty, or begins as a journal does."""
    with open(path, "rb") as file:
        begin = file.read(len(BEGINS))
    return BEGINS.startswith(begin)


def _cut_torn_line(path):
    """Cuts off what follows the last end of a line. The journal is locked."""
    with open(path, "rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end and not _ends_line(file, end):
            end -= 1
        if end < size:
            file.truncate(end)


def _ends_line(file, end):
    file.seek(end - 1)
    return file.read(1) == b"\n"
