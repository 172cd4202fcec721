"""A disk that takes no more ends a run in one line."""

import contextlib
import errno
import os

import tensorflow as tf

from santm_tf.training.errors import UsageError

CODES = errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO
REASONS = [os.strerror(code) for code in CODES]


@contextlib.contextmanager
def takes_no_more(workdir, advice):
    """Within it an error of the disk's, Python's or TensorFlow's, is a `UsageError`.

    Args:
      workdir: the path of the run's folder. advice: what to do once there is room.

    >>> with takes_no_more("runs/a", "go on with --resume"):  # doctest: +ELLIPSIS
    ...     raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    Traceback (most recent call last):
        ...
    santm_tf.training.errors.UsageError: --workdir=runs/a: No space left on device; make room, and go on ...
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        reason = next((text for text in REASONS if text in str(error)), None)
        if reason is None:
            raise
        raise UsageError(f"--workdir={workdir}: {reason}; make room, and {advice}") from error
