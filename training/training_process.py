"""A training in a process of its own, which outlives its being watched."""

import os
import subprocess
import sys

from santm_tf.training import forms

# It finds what this process finds: a folder's own `random.py` is in the way of neither.
PROGRAM = [sys.executable, "-c", f"import sys; sys.path[:] = {sys.path!r}; sys.argv[0] = 'santm-train'; "
           "from santm_tf.training.commands import train; train()"]
SIGNALS = 128  # above it an exit code says which signal asked the process to stop
PATIENCE = 60  # seconds between being asked to stop and having to


class TrainingProcess:
    """A training, `santm-train --resume`, that goes on where it was.

    It has a session of its own, so Ctrl-C does not reach it. What it says is added to `stderr` in its folder.

    Args:
      workdir: its folder. given: its other flags. held: an open file, whose lock it holds until it ends.
    """

    def __init__(self, workdir, given, held):
        self.workdir = workdir
        with open(_log(workdir), "ab") as log:
            self.process = subprocess.Popen(
                [*PROGRAM, *given, f"--workdir={workdir}", "--resume"], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=log, pass_fds=[held.fileno()], start_new_session=True)

    def running(self, seconds):
        """Waits so long at most; says whether it goes on."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return True
        return False

    @property
    def killed_by(self):
        """The number of the signal that ended it, 0 for none."""
        code = self.process.returncode
        return max(-code, code - SIGNALS, 0)

    def stop(self):
        """Has it save a checkpoint, and end."""
        self.process.terminate()
        if self.running(PATIENCE):
            self.process.kill()
            self.process.wait()


def metrics(workdir):
    """What a training has written so far: `epochs`; `best` and `result` when it is done."""
    return forms.metrics(os.path.join(workdir, "metrics.json"))


def last_line(workdir):
    """The last that a training said, which of one that failed says why."""
    try:
        with open(_log(workdir), errors="replace") as file:
            lines = [line.strip() for line in file if line.strip()]
    except FileNotFoundError:
        lines = []
    return lines[-1].removeprefix("error: ") if lines else "it said nothing"


def _log(workdir):
    return os.path.join(workdir, "stderr")
