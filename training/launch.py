"""`santm-launch --workers=4 -- train.py ...`: several workers on this machine, each a process."""

import argparse
import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import santm_tf
from santm_tf.training import flags
from santm_tf.training.cluster import VARIABLE, Cluster
from santm_tf.training.errors import Stopped, UsageError

GRACE = 15.0  # seconds that the others have to end by themselves once one has ended badly
LOOK = 0.1  # seconds between two looks at them
SIGNALS = signal.SIGINT, signal.SIGTERM
INSIDE = "SANTM_TF_MIRRORED"  # in the environment of the processes of --strategy=mirrored


def main(argv=None):
    """Starts a command as several local workers: `santm-launch --workers=2 -- train.py --task=digits ...`."""
    flags.program(_launch, sys.argv if argv is None else argv)


def _launch(argv):
    parser = argparse.ArgumentParser(
        prog=flags.name_of(argv[0]), allow_abbrev=False, usage="%(prog)s --workers=N -- PROGRAM [flags]",
        description="Starts N workers of a program on this machine, which share every batch. Standard output "
        "is the chief's; a line of another worker on standard error begins with its number.")
    parser.add_argument("--workers", type=int, required=True, help="how many processes")
    parser.add_argument("program", nargs=argparse.REMAINDER, help="after --: train.py, santm-train, ...")
    given = parser.parse_args(argv[1:])
    program = given.program[1:] if given.program[:1] == ["--"] else given.program
    if given.workers < 1:
        raise UsageError(f"--workers={given.workers}: must be at least 1")
    if not program:
        raise UsageError("santm-launch: what is to be started? Give it after --, as in -- train.py "
                         "--task=digits --workdir=runs/first")
    if not any(part.lstrip("-").startswith("strategy=") for part in program):
        program.append("--strategy=multiworker")
    end(run(command_of(program), given.workers))


def on_devices(config, name, argv):
    """For `--strategy=mirrored`: runs one of `training.commands` as a process for each device, to their end.

    It does nothing in these processes, for another strategy, and where nothing is trained.

    Args:
      name: of the command. argv: its name as it was called, and its flags.
    """
    session = config.session
    if session.strategy != "mirrored" or session.dry_run or INSIDE in os.environ:
        return False
    root = os.path.dirname(os.path.dirname(os.path.abspath(santm_tf.__file__)))
    variables = {INSIDE: "1", "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    if session.devices:
        variables["CUDA_VISIBLE_DEVICES"] = "-1"
    code = f"import sys; sys.argv[0] = {argv[0]!r}; from santm_tf.training.commands import {name}; {name}()"
    end(run([sys.executable, "-c", code, *argv[1:]], session.devices or _gpus(), **variables))
    return True


def _gpus():
    import tensorflow as tf  # here, as it takes seconds

    count = len(tf.config.list_physical_devices("GPU"))
    if not count:
        raise UsageError("--strategy=mirrored: TensorFlow sees no GPU here; give --devices=N for N logical "
                         "CPUs")
    return count


def command_of(program):
    """How a program is started: a script by this Python."""
    name, *rest = program
    if name.endswith(".py"):
        if not os.path.exists(name):
            raise UsageError(f"{name}: no such file")
        return [sys.executable, name, *rest]
    if not shutil.which(name):
        raise UsageError(f"{name}: no such program; give a script, or santm-train")
    return program


def end(code):
    """Ends this process as the workers ended."""
    if code:
        raise Stopped(f"the workers ended with exit code {code}", code)


def run(command, count, **environment):
    """Runs a command as `count` workers, to their end; none is left behind.

    Ctrl-C and SIGTERM go to all of them. Once one has ended badly the others have `GRACE` seconds to end.

    Args:
      environment: variables that all of them get.

    Returns:
      The exit code: 0 where all ended well, else that of the first that did not.
    """
    workers = []

    def pass_on(number, frame=None):
        for worker in workers:
            worker.send_signal(number)

    before = [signal.signal(number, pass_on) for number in SIGNALS]
    try:
        workers += start(command, count, **environment)
        return _watch(workers)
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
        for number, handler in zip(SIGNALS, before, strict=True):
            signal.signal(number, handler)


def start(command, count, **environment):
    """Starts a command as `count` workers, with these environment variables; returns their processes."""
    addresses = tuple(f"127.0.0.1:{port}" for port in free_ports(count))
    return [_started(command, index, {VARIABLE: Cluster(addresses, index).variable, **environment})
            for index in range(count)]


def free_ports(count):
    """So many ports of this machine that nothing listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def _started(command, index, variables):
    """A worker. It has a session of its own, or Ctrl-C would come to it twice."""
    quiet = {} if index == 0 else {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True,
                                   "errors": "replace"}
    worker = subprocess.Popen(command, env={**os.environ, **variables}, start_new_session=True,
                              stdin=subprocess.DEVNULL, preexec_fn=_ends_with(os.getpid()), **quiet)
    if index:
        threading.Thread(target=_copy, args=[worker.stdout, f"worker {index}: "], daemon=True).start()
    return worker


def _ends_with(parent):
    """What has a process on Linux end with the one that starts it, even if that is killed."""
    if not sys.platform.startswith("linux"):
        return None
    control = ctypes.CDLL(None).prctl

    def ask():
        control(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() != parent:
            os._exit(1)

    return ask


def _copy(lines, start):
    for line in lines:
        print(start + line.rstrip("\n"), file=sys.stderr, flush=True)


def _watch(workers):
    """Waits for all of them. Returns the code of the first that ended badly, 0 for none."""
    code, until = 0, float("inf")
    while None in (codes := [worker.poll() for worker in workers]):
        bad = next((found for found in codes if found), 0)
        if bad and not code:
            code, until = bad, time.monotonic() + GRACE
        if time.monotonic() > until:
            break
        time.sleep(LOOK)
    code = code or next((found for found in codes if found), 0)
    return 128 - code if code < 0 else code
