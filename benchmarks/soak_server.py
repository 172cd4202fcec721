"""Many requests to the server, mixed with faults: `python -m benchmarks.soak_server --requests=100000`.

Clients send right requests and, every other time, one of `FAULTS`. Every answer must be the one that is due;
the server's memory and open files, after a warm-up, must stay where they are. Its end is by SIGTERM.
"""

import argparse
import collections
import contextlib
import http.client
import json
import random
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from benchmarks import table
from benchmarks.serving import TIMEOUT, exported, served

CLIENTS = 8
SLICES = 10  # of the run: a look at memory and files after each
FLAGS = ("--client_seconds=2", "--max_memory_mib=384", "--idle_seconds=20", "--max_sessions=200")
COLUMNS = {"requests": "requests", "rss_mib": "memory, MiB", "files": "open files", "streams": "streams",
           "per_second": "requests a second", "wrong": "wrong answers"}
HEADERS = {"Content-Type": "application/json"}


class Client:
    """One after the other, each on the connection of the last where that is whole."""

    def __init__(self, address, seed, counts):
        self._address, self._rng, self._counts = address, random.Random(seed), counts
        self._connection, self._stream, self.wrong = None, None, []

    def run(self, requests):
        for _ in range(requests):
            name, right = self._rng.choice(FAULTS if self._rng.random() < 0.5 else RIGHT)
            self._counts[name] += 1
            try:
                status = getattr(self, name)()
            except (OSError, http.client.HTTPException) as error:
                status = type(error).__name__
                self._connection = None
            if status not in right:
                self.wrong.append(f"{name}: {status}")

    def _send(self, method, path, body=None):
        """The status; `self._content` is what came."""
        if self._connection is None:
            self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT)
        try:
            self._connection.request(method, path, body, HEADERS)
            answer = self._connection.getresponse()
            self._content = answer.read()
        except (OSError, http.client.HTTPException):  # an idle one was closed: once more, on a new one
            self._connection.close()
            self._connection = http.client.HTTPConnection(self._address, timeout=TIMEOUT)
            self._connection.request(method, path, body, HEADERS)
            answer = self._connection.getresponse()
            self._content = answer.read()
        return answer.status

    def _sequence(self, steps):
        return [[round(self._rng.gauss(0, 1), 4)] for _ in range(steps)]

    def predict(self):
        return self._post("/predict", [self._sequence(self._rng.randint(1, 64)) for _ in
                                       range(self._rng.randint(1, 4))])

    def _post(self, path, inputs):
        return self._send("POST", path, json.dumps({"inputs": inputs}))

    def _opened(self):
        if self._stream is None or self._rng.random() < 0.05:
            if self._send("POST", "/streams") == 429:
                return "/streams/none"
            self._stream = f"/streams/{json.loads(self._content)['id']}"
        return self._stream

    def step(self):
        status = self._post(self._opened(), self._sequence(self._rng.randint(1, 3)))
        if status == 404:
            self._stream = None
        return status

    def state(self):
        path = f"{self._opened()}/state"
        status = self._send("GET", path)
        return self._send("PUT", path, self._content) if status == 200 else status

    def health(self):
        return self._send("GET", "/health")

    def bad_json(self):
        return self._send("POST", "/predict", '{"inputs": [[[1.0], ')

    def wrong_shape(self):
        return self._post("/predict", [[[1.0, 2.0]]])

    def not_a_number(self):
        return self._send("POST", "/predict", '{"inputs": [[[NaN]]]}')

    def overflow(self):
        return self._post("/predict", [[[3e38]] * 3])

    def unknown(self):
        return self._post("/streams/unknown", [[1.0]])

    def huge_batch(self):
        return self._post("/predict", [[[0.5]]] * 33000)

    def large_batch(self):
        """As many rows as there may be; one in so many, as it takes seconds."""
        if self._rng.random() > 0.02:
            return self.huge_batch()
        return self._post("/predict", [[[0.5]]] * 20000)

    def large_body(self):
        return self._send("POST", "/predict", b" " * (4 * 2**20 + 1))

    def cut(self):
        """A request whose client is gone before its answer, or in the middle of its body."""
        body = json.dumps({"inputs": [self._sequence(64)] * 8}).encode()
        with self._socket() as connection:
            sent = _request(body)
            connection.sendall(sent[:self._rng.choice([20, len(sent) // 2, len(sent)])])
        return "cut"

    def slow(self):
        """A client that stops in its request, and is cut; one in so many, as it takes seconds."""
        with self._socket() as connection:
            if self._rng.random() > 0.01:
                connection.sendall(b"POST /pre")
                return "cut"
            connection.sendall(_request(b'{"inputs": [[[1.0]]]}')[:-5])
            with contextlib.suppress(ConnectionResetError):
                return "cut" if connection.recv(1) == b"" else "answered"
            return "cut"

    def garbage(self):
        with self._socket() as connection:
            connection.sendall(self._rng.randbytes(200) + b"\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                return connection.recv(12).decode("latin-1")[-3:]
            return "400"

    def _socket(self):
        host, port = self._address.split(":")
        return socket.create_connection((host, int(port)), TIMEOUT)


def _request(body):
    return (b"POST /predict HTTP/1.1\r\nHost: soak\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (len(body), body))


# What is sent, and what may come. A busy server may say 503; one whose limit is reached closes on a body.
RIGHT = [("predict", {200}), ("step", {200, 404}), ("state", {204, 404}), ("health", {200})]
FAULTS = [("bad_json", {422}), ("wrong_shape", {422}), ("not_a_number", {422}), ("overflow", {200, 422}),
          ("unknown", {404}), ("huge_batch", {413}), ("large_batch", {200, 413, 503}),
          ("large_body", {413, "BrokenPipeError", "ConnectionResetError"}), ("cut", {"cut"}),
          ("slow", {"cut"}), ("garbage", {"400"})]


def figures(address):
    """Memory, open files and streams, by the server's own word."""
    connection = http.client.HTTPConnection(address, timeout=TIMEOUT)
    connection.request("GET", "/metrics")
    text = connection.getresponse().read().decode()
    connection.close()
    found = {name: float(re.search(rf"^{name} (.*)$", text, re.MULTILINE)[1]) for name in
             ("process_resident_memory_bytes", "process_open_fds", "santm_streams")}
    return {"rss_mib": round(found["process_resident_memory_bytes"] / 2**20),
            "files": int(found["process_open_fds"]), "streams": int(found["santm_streams"])}


def soak(address, requests, seed, minutes):
    """Rows of the slices, and how many requests of each kind there were."""
    counts, rows, begun = collections.Counter(), {}, time.monotonic()
    clients = [Client(address, seed + i, counts) for i in range(CLIENTS)]
    each = max(1, requests // SLICES // CLIENTS)
    with ThreadPoolExecutor(CLIENTS) as pool:
        for i in range(SLICES):
            start = time.monotonic()
            list(pool.map(lambda client: client.run(each), clients))
            wall = time.monotonic() - start
            time.sleep(3)  # those that were cut are closed by then
            rows[f"{i + 1} of {SLICES}"] = {
                "requests": sum(counts.values()), **figures(address), "per_second": each * CLIENTS / wall,
                "wrong": sum(len(client.wrong) for client in clients)}
            print(rows[f"{i + 1} of {SLICES}"], flush=True)
            if time.monotonic() - begun > 60 * minutes:
                break
    for wrong, count in collections.Counter(said for client in clients for said in client.wrong).items():
        print(f"wrong: {count} times {wrong}")
    return rows, counts


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak_server")
    parser.add_argument("--model", help="an export (default: an untrained SANTM of the sizes of digits.cfg)")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no further slice begins")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with exported(options.model) as folder, served(folder, *FLAGS) as address:
        print(f"{threading.active_count()} threads; start: {figures(address)}", flush=True)
        rows, counts = soak(address, options.requests, options.seed, options.minutes)
    kinds = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    points = [(row["requests"], row["rss_mib"]) for row in list(rows.values())[1:]]
    slope = 1e5 * np.polyfit(*zip(*points, strict=True), 1)[0] if len(points) > 1 else float("nan")
    table.write("soak_server", f"The server under {CLIENTS} clients, half of whose requests are faults; "
                f"after the first slice memory changes by {slope:.1f} MiB in 100,000 requests. "
                f"Sent: {kinds}.",
                "slice", rows, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
