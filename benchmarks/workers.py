"""What training in several processes costs: the time of a step and of its exchange, and the bytes exchanged.

`python -m benchmarks.workers --data_dir=../shared/data/mnist.npz` trains pmnist's model, of
`configs/pmnist.cfg`, in 1, 2 and 4 processes over this machine's own network and, where it allows network
namespaces, over wires of 1 Gbit/s and 100 Mbit/s. From these it says what a step takes in P processes of a
thread each:

`t(P) = b + c B / P + 2 (P - 1) k l + 2 (P - 1) / P V / w`

B rows a batch, V bytes in k exchanges, w bytes a second on a wire. b and c are from steps of one process with
fewer rows; l, the time of a round of an exchange, from exchanges that no wire slows.
"""

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from benchmarks import network, table
from benchmarks.harness import measure
from santm_tf.training import launch
from santm_tf.training.cluster import VARIABLE, Cluster

BATCH, FEW = 128, 32  # rows
WARM_UP = 3  # steps, which compile
PORT = 9321
WIRES = {"1 Gbit/s": ("1gbit", 1e9 / 8), "100 Mbit/s": ("100mbit", 1e8 / 8)}  # of tc, bytes a second
COLUMNS = {"step": "seconds a step", "exchange": "its exchange alone",
           "ratio": "to one process, equal threads", "bytes": "bytes", "exchanges": "exchanges",
           "peak_mib": "MiB a process"}


class Case(NamedTuple):
    """Processes, the threads of each, the rows of a batch, and what wires there are between them."""

    processes: int
    threads: int = 1
    batch: int = BATCH
    wires: str = ""

    def __str__(self):
        return f"{self.processes} x {self.threads}, {self.batch} rows" + f", {self.wires}" * bool(self.wires)

    def alone(self):
        """One process with as many threads in all."""
        return Case(1, self.processes * self.threads)


CASES = [Case(1, batch=FEW), Case(1), Case(1, 2), Case(2), Case(4),
         *(Case(count, wires=wires) for wires in WIRES for count in (2, 4))]


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers")
    parser.add_argument("--data_dir", default="../shared/data/mnist.npz", help="mnist.npz")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a row")
    parser.add_argument("--steps", type=int, default=7, help="timed in each of them")
    parser.add_argument("--folder", help="time steps of --batch rows here, and leave them in this folder")
    parser.add_argument("--batch", type=int, default=BATCH)
    chosen = parser.parse_args()
    if chosen.folder:
        timed(chosen)
        return
    runs = {case: [] for case in CASES}
    for _ in range(chosen.rounds):  # rounds outside, so that a slow minute strikes every row
        for case, found in runs.items():
            try:
                found.append(measured(case, chosen))
            except RuntimeError as error:
                print(f"{case}: left out, {error}", file=sys.stderr)
    rows = {case: {key: statistics.median(run[key] for run in found) for key in found[0]}
            for case, found in runs.items() if found}
    for case, row in rows.items():
        if case.alone() in rows and case.batch == BATCH:
            row["ratio"] = row["step"] / rows[case.alone()]["step"]
    table.write("workers", f"A step of pmnist's model; {' and '.join(formula(rows))}.",
                "processes x threads, batch, wires", {str(case): row for case, row in rows.items()}, COLUMNS,
                table.rounded)


def formula(rows):
    """The constants of `t(P)`, as texts."""
    few, many, two = rows[Case(1, batch=FEW)]["step"], rows[Case(1)]["step"], rows[Case(2)]
    c = (many - few) / (BATCH - FEW)
    rounds = 2 * two["exchanges"]
    return [f"b = {few - c * FEW:.2g} s", f"c = {c:.2g} s", f"l = {two['exchange'] / rounds:.2g} s",
            f"k = {two['exchanges']:.0f}", f"V = {two['bytes']:.0f}"]


def measured(case, chosen):
    """The figures of one case, in fresh processes; the slowest process's where they differ."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.workers", f"--folder={folder}", f"--batch={case.batch}",
                   f"--data_dir={chosen.data_dir}", f"--steps={chosen.steps}"]
        environment = {"TF_NUM_INTRAOP_THREADS": str(case.threads), "TF_NUM_INTEROP_THREADS": "1",
                       "OMP_NUM_THREADS": str(case.threads), "TF_CPP_MIN_LOG_LEVEL": "3"}
        if case.wires:
            code = over_wires(command, case, environment)
        else:
            code = launch.run(command, case.processes, **environment)
        if code:
            raise SystemExit(f"{case}: ended with exit code {code}")
        found = []
        for index in range(case.processes):
            with open(os.path.join(folder, f"{index}.json")) as file:
                found.append(json.load(file))
    return {key: max(figures[key] for figures in found) for key in found[0]}


def over_wires(command, case, environment):
    """Runs a command on a host for each process; returns an exit code."""
    with network.hosts(case.processes, WIRES[case.wires][0]) as hosts:
        addresses = tuple(f"{address}:{PORT}" for address, _ in hosts)
        workers = [subprocess.Popen([*on_host, *command], stdout=subprocess.DEVNULL, env={
            **os.environ, **environment, VARIABLE: Cluster(addresses, index).variable})
            for index, (_, on_host) in enumerate(hosts)]
        try:
            return max(abs(worker.wait()) for worker in workers)
        finally:
            for worker in workers:
                worker.kill()
                worker.wait()


def timed(chosen):
    """Times steps in this process, and leaves the figures in `FOLDER/INDEX.json`."""
    import tensorflow as tf

    from santm_tf.training import devices, flags
    from santm_tf.training.models import compiled
    from santm_tf.training.resolve import resolve
    from santm_tf.training.run import load_task

    several = len(json.loads(os.environ[VARIABLE])["cluster"]["worker"]) > 1
    config = flags.parse(["workers", "--flagfile=configs/pmnist.cfg", f"--data_dir={chosen.data_dir}",
                          f"--batch_size={chosen.batch}", f"--workdir={chosen.folder}",
                          *["--strategy=multiworker"] * several])
    with devices.started(config) as place:
        task = load_task(config, share=place.share)
        config = resolve(config, task)
        model = compiled(config, task, place.replicas)
        sizes = counted(place.replicas)
        batches = iter(task.rows(place.share, task.train))
        model.make_train_function()
        step = model.train_function
        found = {"step": measure(lambda: float(step(batches)["loss"]), chosen.steps, WARM_UP)}
        found |= {"exchange": 0.0, "bytes": 0, "exchanges": 0}
        if several:
            tensors, place.replicas.sum = [tf.zeros(size) for size in sizes], place.replicas.whole
            found |= {"bytes": 4 * sum(sizes), "exchanges": len(sizes), "exchange": measure(
                lambda: [place.replicas.sum([tensor])[0].numpy() for tensor in tensors], chosen.steps,
                WARM_UP)}
        found["peak_mib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        index = place.share.index
    with open(os.path.join(chosen.folder, f"{index}.json"), "w") as file:
        json.dump(found, file)


def counted(replicas):
    """How many numbers each exchange of a step has: a list, which tracing the step fills."""
    sizes = []
    if replicas is not None:
        share, replicas.whole = replicas.sharing, replicas.sum

        def begun(rows):
            sizes.clear()  # a step that makes variables is traced twice
            return share(rows)

        def noted(tensors):
            sizes.append(sum(math.prod(getattr(tensor, "shape", ())) for tensor in tensors))
            return replicas.whole(tensors)

        replicas.sharing, replicas.sum = begun, noted
    return sizes


if __name__ == "__main__":
    main()
