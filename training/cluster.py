"""The processes that train one model together: who they are, and that they agree, before TensorFlow starts.

They are named by `TF_CONFIG`, which Kubernetes' TFJob, Ray Train and `santm-launch` set, or by Slurm. The
first is the chief. To import this imports no TensorFlow.
"""

import contextlib
import json
import os
import socket
import time
import uuid
from typing import NamedTuple

from santm_tf.training.errors import UsageError

VARIABLE = "TF_CONFIG"
ADVICE = "see docs/distributed.md"
HOW = f"set {VARIABLE}, or run under Slurm; santm-launch does for one machine; {ADVICE}"
PAUSE = 0.1  # seconds between two tries
MOST = 1024  # processes on a machine
SHARED_WITHIN = 5.0  # seconds in which a file comes from one machine to another


class Cluster(NamedTuple):
    """The addresses `host:port` of the processes, the chief's first, and which of them this one is."""

    addresses: tuple[str, ...]
    index: int

    @property
    def chief(self):
        """Whether this process is the one that writes."""
        return self.index == 0

    @property
    def variable(self):
        """The `TF_CONFIG` that says the same."""
        return json.dumps({"cluster": {"worker": self.addresses},
                           "task": {"type": "worker", "index": self.index}})

    def named(self, index):
        """What an error calls one of them."""
        return f"{'the chief' if index == 0 else f'worker {index}'} ({self.addresses[index]})"

    @property
    def here(self):
        """How many of the processes are on this one's machine."""
        return self._hosts().count(self._hosts()[self.index])

    @property
    def before_here(self):
        """How many of them come before this one."""
        return self._hosts()[:self.index].count(self._hosts()[self.index])

    def _hosts(self):
        return [address.rpartition(":")[0] for address in self.addresses]


def of_environment(environment=os.environ):
    """The `Cluster` that `TF_CONFIG` or Slurm names.

    Raises:
      UsageError: there is none, or it cannot be.

    >>> text = '{"cluster": {"worker": ["a:1", "b:1"]}, "task": {"type": "worker", "index": 1}}'
    >>> of_environment({"TF_CONFIG": text}).chief
    False
    """
    if text := environment.get(VARIABLE):
        return _of_text(text)
    if "SLURM_PROCID" in environment:
        return _of_slurm()
    raise UsageError(f"--strategy=multiworker: there is no cluster; {HOW}")


def _of_text(text):
    try:
        told = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{VARIABLE}: is not JSON ({error}); {HOW}") from error
    try:
        jobs, task = dict(told["cluster"]), told["task"]
        kind, index = task["type"], int(task["index"])
        sizes = {job: [str(address) for address in addresses] for job, addresses in jobs.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f'{VARIABLE}: must be {{"cluster": {{"worker": ["host:port", ...]}}, "task": '
                         f'{{"type": "worker", "index": 0}}}}; {HOW}') from error
    if others := sizes.keys() - {"chief", "worker"}:
        raise UsageError(f"{VARIABLE}: has the job {min(others)}; all are workers, of which one may be "
                         "the chief")
    if kind not in sizes or not 0 <= index < len(sizes[kind]):
        raise UsageError(f"{VARIABLE}: this is {kind} {index}, and the cluster has "
                         + (", ".join(f"{len(sizes[job])} of the job {job}" for job in sizes) or "no job")
                         + "; an index counts from 0")
    addresses = [*sizes.get("chief", []), *sizes.get("worker", [])]
    for address in addresses:
        host, _, port = address.rpartition(":")
        if not (host and port.isdigit() and 0 < int(port) < 2 ** 16):
            raise UsageError(f"{VARIABLE}: {address}: must be host:port")
        if addresses.count(address) > 1:
            raise UsageError(f"{VARIABLE}: two workers have the address {address}; each needs its own")
    return Cluster(tuple(addresses), index + (kind == "worker") * len(sizes.get("chief", [])))


def _of_slurm():
    import tensorflow as tf  # here, as it takes seconds

    try:
        # Each process has one device, whatever Slurm gave to its machine.
        resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(
            gpus_per_node=MOST, gpus_per_task=1, auto_set_gpu=False)
        return Cluster(tuple(resolver.cluster_spec().as_dict()["worker"]), resolver.task_id)
    except (KeyError, ValueError, RuntimeError, OSError) as error:
        raise UsageError(f"--strategy=multiworker: Slurm's variables name no cluster ({error}); start the "
                         "run by srun") from error


def join(cluster, seconds, facts, folder):
    """Waits until all processes are there, and have agreed.

    They speak over the chief's port, which is free again afterwards.

    Args:
      seconds: to wait at most.
      facts: what must be the same in all of them, `{name: text}`.
      folder: that all must share. The chief makes a file in it, which the others look for.

    Raises:
      UsageError: a process did not come, is another one, or sees another folder. All of them say the same.
    """
    deadline = time.monotonic() + seconds
    with _bound(cluster) as listener:
        if cluster.chief:
            _as_chief(cluster, listener, deadline, seconds, facts, folder)
            return
    _as_worker(cluster, deadline, seconds, facts, folder)


def _bound(cluster):
    """A socket on this process's port."""
    _, port = _address(cluster, cluster.index)
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("", port))
        listener.listen(len(cluster.addresses))
    except OSError as error:
        listener.close()
        raise UsageError(f"{VARIABLE}: port {port} of {cluster.named(cluster.index)} cannot be had "
                         f"({error.strerror}); end what has it, or name another port") from error
    return listener


def _as_chief(cluster, listener, deadline, seconds, facts, folder):
    with contextlib.ExitStack() as stack:
        lines = stack.enter_context(_Lines(cluster))
        try:
            _gather(cluster, listener, lines, deadline, seconds)
            for index, told in sorted(lines.told.items()):
                _refuse_other(cluster, index, facts, told["facts"])
            token = stack.enter_context(_token(folder))
            lines.send({"token": token})
            for index in sorted(lines.told):
                if not lines.read(index, deadline + SHARED_WITHIN)["seen"]:
                    raise UsageError(f"--workdir={folder}: {cluster.named(index)} has another folder of that "
                                     "name; name one that all share")
        except UsageError as error:
            lines.send({"error": str(error)})
            raise
        lines.send({"go": True})


def _gather(cluster, listener, lines, deadline, seconds):
    """Waits for the first line of each worker."""
    count = len(cluster.addresses)
    while missing := [index for index in range(1, count) if index not in lines.told]:
        left = deadline - time.monotonic()
        if left <= 0:
            names = ", ".join(map(cluster.named, missing))
            raise UsageError(f"--join_seconds={seconds:g}: in this time {names} did not come; start all "
                             f"{count}, or wait longer")
        listener.settimeout(left)
        with contextlib.suppress(TimeoutError):
            lines.greet(listener.accept()[0], min(left, 1.0))


def _as_worker(cluster, deadline, seconds, facts, folder):
    silent = UsageError(f"--join_seconds={seconds:g}: in this time {cluster.named(0)} did not answer; start "
                        f"all {len(cluster.addresses)}, or wait longer")
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError, ValueError), contextlib.ExitStack() as stack:
            wire = stack.enter_context(socket.create_connection(_address(cluster, 0), timeout=1.0))
            wire.settimeout(max(1.0, deadline - time.monotonic()) + 2 * SHARED_WITHIN)
            file = stack.enter_context(wire.makefile("rw"))

            def say(**line):
                print(json.dumps(line), file=file, flush=True)  # noqa: B023

            say(index=cluster.index, facts=facts)
            answer = json.loads(file.readline())
            if "token" in answer:
                say(seen=_seen(os.path.join(folder, answer["token"])))
                answer = json.loads(file.readline())
            if "error" in answer:
                raise UsageError(answer["error"])
            if "go" in answer:
                return
        time.sleep(PAUSE)
    raise silent


class _Lines:
    """The chief's wires to the workers, each a line of JSON at a time.

    Attributes:
      told: the first line of each worker, by its index.
    """

    def __init__(self, cluster):
        self.told, self._files, self._cluster, self._stack = {}, {}, cluster, contextlib.ExitStack()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._stack.close()

    def greet(self, wire, seconds):
        """Takes a worker in; what does not speak so is none, and is left."""
        wire.settimeout(seconds)
        file = wire.makefile("rw")
        try:
            line = json.loads(file.readline())
            index, _ = line["index"], line["facts"]
        except (OSError, ValueError, KeyError, TypeError):
            wire.close()
            return
        self._stack.enter_context(wire)
        self._stack.enter_context(contextlib.suppress(OSError))
        if index in self.told:
            raise UsageError(f"{VARIABLE}: two processes are {self._cluster.named(index)}; give each its own "
                             "index")
        self.told[index], self._files[index] = line, (wire, file)

    def send(self, line):
        """To all that have come."""
        for _, file in self._files.values():
            with contextlib.suppress(OSError):
                print(json.dumps(line), file=file, flush=True)

    def read(self, index, deadline):
        """The next line of a worker."""
        wire, file = self._files[index]
        wire.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            return json.loads(file.readline())
        except (OSError, ValueError) as error:
            raise UsageError(f"{self._cluster.named(index)} ended as the run began; see what it said, and "
                             "start all again") from error


def _refuse_other(cluster, index, facts, theirs):
    for name in dict.fromkeys([*facts, *theirs]):
        if facts.get(name) != theirs.get(name):
            raise UsageError(f"{cluster.named(index)} has {theirs.get(name) or f'no {name}'}, and the chief "
                             f"{facts.get(name) or f'no {name}'}; start all with the same flags and versions")


@contextlib.contextmanager
def _token(folder):
    """The name of a file that is in a folder within."""
    name = f".joined-{uuid.uuid4().hex}"
    try:
        os.makedirs(folder, exist_ok=True)
        with open(os.path.join(folder, name), "w"):
            pass
    except OSError as error:
        raise UsageError(f"--workdir={folder}: {error.strerror}") from error
    try:
        yield name
    finally:
        os.remove(os.path.join(folder, name))


def _seen(path):
    deadline = time.monotonic() + SHARED_WITHIN
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            return False
        time.sleep(PAUSE)
    return True


def _address(cluster, index):
    host, _, port = cluster.addresses[index].rpartition(":")
    return host.strip("[]"), int(port)
