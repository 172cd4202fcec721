"""What XLA has compiled, kept in the user's cache folder for the next run; and how long first steps took.

To import this imports no TensorFlow, which reads its flags once. Two runs at once are safe: a file comes
there whole or not at all.
"""

import contextlib
import hashlib
import importlib.util
import json
import os
import pathlib
import platform
import shutil
import sys
import tempfile

from santm_tf.paths import write_whole
from santm_tf.training.errors import note

FLAGS, DIRECTORY = "TF_XLA_FLAGS", "--tf_xla_persistent_cache_directory"
# A program for a GPU depends on more than is looked at here.
CPU_ALONE = "--tf_xla_persistent_cache_device_types=CPU"
MOST = 2**30  # bytes, of the programs of all installations and machines
ROOM = 2**28  # bytes free; TensorFlow ends a run when it cannot write a program
RUNS = 200  # of which it is known how long their first steps took


@contextlib.contextmanager
def kept_programs(wanted):
    """Has TensorFlow, not yet imported, look for XLA's programs in the folder, and write them there.

    It does nothing where `TF_XLA_FLAGS` names a directory or a file of flags, and says so where the folder is
    of no use. An error of TensorFlow's empties the folder, as TensorFlow does not get past a damaged file.

    Args:
      wanted: whether to do that.
    """
    flags = os.environ.get(FLAGS, "")
    theirs = DIRECTORY in flags or flags and not flags.startswith("-")
    folder = None
    if wanted and not theirs and "tensorflow" not in sys.modules:
        folder = _made()
        if folder:
            os.environ[FLAGS] = f'{flags} {DIRECTORY}="{folder}" {CPU_ALONE}'.strip()
    try:
        yield
    except Exception as error:
        if folder and type(error).__module__.startswith("tensorflow."):
            _trim(folder.glob("*.pb"), 0)
            note(f"what XLA had compiled is deleted, in case that is the reason: {folder}")
        raise


def folder():
    """The folder for this machine, this TensorFlow and these flags of XLA."""
    home = os.environ.get("XDG_CACHE_HOME", "")
    home = pathlib.Path(home if os.path.isabs(home) else os.path.expanduser("~/.cache"))
    tensorflow = importlib.util.find_spec("tensorflow").origin
    parts = [tensorflow, os.path.getmtime(tensorflow), _processor(), os.cpu_count(),
             os.environ.get("XLA_FLAGS")]
    return home / "santm_tf" / "xla" / hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def count():
    """How many programs are kept; None where none are."""
    path = folder()
    return len(list(path.glob("*.pb"))) if str(path) in os.environ.get(FLAGS, "") else None


def seconds():
    """How long the first steps of runs will take, as far as it is known: `{run: seconds}`."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        found = json.loads((folder() / "seconds.json").read_text()).items()
        return {run: took for run, took in found if isinstance(took, int | float) and 0 < took < 1e6}
    return {}


def note_seconds(run, took):
    """Notes how long the first step of such a run will take, where programs are kept."""
    if count() is None:
        return
    known = seconds()
    known.pop(run, None)  # the last ones stay
    known = dict([*known.items(), (run, round(took, 1))][-RUNS:])
    with contextlib.suppress(OSError):
        write_whole(folder() / "seconds.json", json.dumps(known, indent=1))


def _made():
    """The folder, where it can be written to."""
    path = folder()
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path):
            pass
        if shutil.disk_usage(path).free < ROOM:
            raise OSError(0, "no space left")
    except OSError as error:
        note(f"what XLA compiles is not kept for the next run: {path}: {error.strerror}")
        return None
    _trim(path.parent.glob("*/*.pb"), MOST)
    return path


def _trim(files, most):
    """Deletes what is cut off, and what was not used for longest until the rest has so many bytes."""
    with contextlib.suppress(OSError):  # another run deletes, too
        found = sorted(((file, file.stat()) for file in files), key=lambda pair: pair[1].st_atime)
        total = sum(stat.st_size for _, stat in found)
        for file, stat in found:
            if total > most or not _whole(file, stat.st_size):
                file.unlink(missing_ok=True)
                total -= stat.st_size


def _whole(file, size):
    """Whether a protocol buffer ends with a field; each is a byte, its length, and so many bytes.

    At a program that is cut off Keras would believe that the data had ended.
    """
    with open(file, "rb") as opened:
        at = 0
        while at < size:
            opened.seek(at + 1)
            length = shift = 0
            while byte := opened.read(1):
                length |= (byte[0] & 127) << shift
                shift += 7
                if byte[0] < 128:
                    break
            at = opened.tell() + length
        return at == size > 0


def _processor():
    """What names the instructions of this machine's processor."""
    with contextlib.suppress(OSError, StopIteration), open("/proc/cpuinfo") as file:
        return next(line for line in file if line.startswith(("flags", "Features")))
    return platform.processor()
