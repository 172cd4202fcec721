"""Load on the server over loopback: `python -m benchmarks.serving`.

A fresh server a case and round, and clients that each send the next request when the last is answered, until
`--seconds` are over. Latencies are the clients', who share the machine's cores with the server.
"""

import argparse
import contextlib
import http.client
import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks import table

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # where the server's folder is
STEPS = 64  # of a sequence
WARMUP = 3  # requests of a client that do not count
TIMEOUT = 60  # seconds for a request
CASES = {  # what is asked for, by how many clients, flags of the server
    "predict, 1 client": ("predict", 1),
    "predict, 8 clients": ("predict", 8),
    "step, 1 stream": ("step", 1),
    "step, 8 streams": ("step", 8),
    "step, 64 streams": ("step", 64),
    "step, 64 streams, each alone": ("step", 64, "--max_batch=1"),
}
COLUMNS = {"per_second": "requests a second", "p50": "p50, ms", "p99": "p99, ms", "errors": "errors",
           "requests": "requests"}


@contextlib.contextmanager
def exported(folder=None):
    """The folder of an export: the one given, or a new one while it is needed."""
    if folder:
        yield folder
    else:
        with tempfile.TemporaryDirectory() as made:
            export(made)
            yield made


def export(folder):
    """An untrained SANTM of the sizes of configs/digits.cfg."""
    import santm_tf  # first: it chooses Keras 2  # noqa: I001
    import tensorflow as tf
    from santm_tf.export import export

    export(tf.keras.Sequential([tf.keras.Input([STEPS, 1]), santm_tf.SANTM(64, access_rate=0.375),
                                tf.keras.layers.Dense(10)]), folder)


@contextlib.contextmanager
def served(folder, *flags):
    """The address of a server."""
    argv = "-m", "serving.server", f"--model={os.path.abspath(folder)}", "--port=0", *flags
    process = subprocess.Popen([sys.executable, *argv],
                               stderr=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        said = []
        for line in process.stderr:
            said.append(line)
            if found := re.search(r"http://([\d.:]+)", line):
                break
        else:
            raise RuntimeError("".join(said))
        # The pipe is read on, or the server would wait once it is full.
        with ThreadPoolExecutor(1) as pool:
            pool.submit(process.stderr.read)
            try:
                yield found[1]
            finally:
                process.terminate()
    finally:
        process.wait(TIMEOUT)


class Client:
    """A connection, on which a request follows the answer to the last one."""

    def __init__(self, address, kind, facts, seed):
        self._connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
        self._path = "/predict" if kind == "predict" else f"/streams/{self._send('/streams')['id']}"
        rng = np.random.default_rng(seed)
        inputs = (rng.normal(size=[STEPS, facts["features"]]) if "features" in facts
                  else rng.integers(facts["vocabulary"], size=[STEPS]))
        given = [[inputs.tolist()]] if kind == "predict" else [[row] for row in inputs.tolist()]
        self._bodies = itertools.cycle(json.dumps({"inputs": one}) for one in given)
        self.latencies, self.errors = [], 0
        for _ in range(WARMUP):
            self._send(self._path, next(self._bodies))

    def run(self, end):
        """Until the time `end`."""
        while (begun := time.perf_counter()) < end:
            try:
                self._send(self._path, next(self._bodies))
            except (OSError, http.client.HTTPException, ValueError):
                self.errors += 1
            self.latencies.append(time.perf_counter() - begun)

    def _send(self, path, body=None):
        self._connection.request("POST", path, body, {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status // 100 != 2:
            raise ValueError(f"{path}: {answer.status} {content}")
        return json.loads(content)


def measured(folder, seconds, kind, clients, *flags):
    """A row of one round."""
    with open(os.path.join(folder, "santm.json")) as file:
        facts = json.load(file)
    with served(folder, *flags) as address, ThreadPoolExecutor(clients) as pool:
        made = list(pool.map(lambda seed: Client(address, kind, facts, seed), range(clients)))
        begun = time.perf_counter()
        list(pool.map(lambda client: client.run(begun + seconds), made))
        wall = time.perf_counter() - begun
    latencies = np.concatenate([client.latencies for client in made])
    p50, p99 = np.percentile(latencies, [50, 99]) * 1000
    return {"per_second": len(latencies) / wall, "p50": p50, "p99": p99,
            "errors": sum(client.errors for client in made), "requests": len(latencies)}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving")
    parser.add_argument("--model", help="an export (default: an untrained SANTM of the sizes of digits.cfg)")
    parser.add_argument("--seconds", type=float, default=10, help="of load, a case and round")
    parser.add_argument("--rounds", type=int, default=3, help="fresh servers a case")
    options = parser.parse_args()
    with exported(options.model) as folder:
        runs = {case: [] for case in CASES}
        for _ in range(options.rounds):  # rounds outside, so that a slow minute strikes every case
            for case, load in CASES.items():
                runs[case].append(measured(folder, options.seconds, *load))
    total = {"errors", "requests"}
    rows = {case: {name: (sum if name in total else statistics.median)(run[name] for run in found)
                   for name in COLUMNS} for case, found in runs.items()}
    table.write("serving", f"The server over loopback: medians over {options.rounds} servers, which "
                f"share {os.cpu_count()} cores with the clients. predict: one sequence of {STEPS} steps a "
                "request; step: one step.", "load", rows, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
