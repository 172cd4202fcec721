"""The server as a process: whom it waits for, how it ends, what it leaves."""

import contextlib
import random
import re
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest

from serving import server, states
from serving.model import Model
from serving.streams import Sessions
from tests.serving_stand_in import opened, reference, refused, sequence, serving, stepped

SECONDS = 1  # that the server waits for a client


@contextlib.contextmanager
def process(folder, *flags):
    """A server's process and its address."""
    argv = "-m", server.__name__, f"--model={folder}", "--port=0", *flags
    running = subprocess.Popen([sys.executable, *argv], stderr=subprocess.PIPE, text=True)
    try:
        found = (re.search(r"http://[\d.:]+", line) for line in running.stderr)
        yield running, next(filter(None, found))[0]
    finally:
        running.kill()
        running.wait()


def test_it_waits_for_nobody_for_long_and_ends_on_sigterm_with_an_answer(folder, tmp_path, capsys):
    path = str(tmp_path / "streams.npz")
    with process(folder, f"--streams_file={path}", f"--client_seconds={SECONDS}", "--grace_seconds=0.5") as (
            running, url), httpx2.Client(base_url=url, timeout=60) as client:
        port = int(url.rpartition(":")[2])
        assert client.get("/health").json() == {"status": "ok"}
        refused(client.post("/predict", content=b"[" * 5_000_000), 413, "the body is over")
        with pytest.raises(SystemExit) as ended:
            server.main([f"--model={folder}", f"--port={port}"])
        assert ended.value.code == 2 and f"--port={port}: cannot listen" in capsys.readouterr().err
        given, stream = sequence(random.Random(5), 9), opened(client)
        np.testing.assert_allclose(stepped(client, stream, given[:4]), reference(given[:4]), atol=1e-5)
        waiting_clients_are_cut(client, port)
        assert client.post("/save").json() == {"streams": 1}
        with ThreadPoolExecutor(2) as pool:
            long = [pool.submit(client.post, where, json={"inputs": given[4:5] * 32768})
                    for where in (stream, opened(client))]
            until(lambda: figure(client, "santm_requests_running") == 3)
            running.send_signal(signal.SIGTERM)
            for answer in long:
                refused(answer.result(), 503, "the server ends; nothing was changed")
        assert running.wait(60) == 0
        assert "Traceback" not in running.stderr.read()

    # It goes on elsewhere, from where it was.
    model, sessions = Model(folder), Sessions(9, 60.0)
    sessions.restore(states.load(path, model.first_state, 9))
    with serving(model) as serve:
        client = serve(sessions=sessions)
        assert client.get("/model").json()["open_streams"] == 2
        np.testing.assert_allclose(stepped(client, stream, given[4:]), reference(given)[4:], atol=1e-5)


def until(true, seconds=60):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def figure(client, name):
    return float(re.search(rf"^{name} (.*)$", client.get("/metrics").text, re.MULTILINE)[1])


def waiting_clients_are_cut(client, port, many=2000):
    """Those that send nothing, half a head, half a body, or do not read their answers."""
    half = b"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n{"
    whole = b"GET /openapi.json HTTP/1.1\r\nHost: a\r\n\r\n"
    files = figure(client, "process_open_fds")
    with contextlib.ExitStack() as stack:
        slow = [stack.enter_context(contextlib.closing(socket.socket())) for _ in range(4)]
        for one, content in zip(slow, [b"", half[:30], half, whole * many], strict=True):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            one.settimeout(60)
            one.connect(("127.0.0.1", port))
            one.sendall(content)
        for one in slow[:3]:
            with contextlib.suppress(ConnectionResetError):
                assert one.recv(1) == b""
        until(lambda: figure(client, "process_open_fds") == files)
    assert 0 < figure(client, r'santm_requests_total{.*"other",status="200"}') < many


def test_a_file_of_streams_is_checked(folder, tmp_path, capsys):
    model, path = Model(folder), str(tmp_path / "streams.npz")
    one = model.first_state
    states.save(path, {"a": one, "b": {**one, "s": one["s"] + 2}}, one)
    found = states.load(path, one, 2)
    assert list(found) == ["a", "b"] and found["b"]["s"].tolist() == [[2, 2]]
    for states_, most, words in [
            ({"a": {**one, "s": one["s"] * np.nan}}, 9, "not all finite"),
            ({"a": {**one, "s": one["s"][:, :1]}}, 9, "s is float32[1, 1], not float32[1, 2]"),
            ({"a": {**one, "t": one["t"].astype("f8")}}, 9, "t is float64[1], not int32[1]"),
            ({"a": {**one, "model": one["model"] + 1}}, 9, "of another model"),
            ({f"{i}": one for i in range(3)}, 2, "its ids must be at most 2 different texts"),
            ({f"{i}": one for i in range(5000)}, 2, "more than 2 streams")]:
        states.save(path, states_, next(iter(states_.values())))
        with pytest.raises(states.StateError, match=re.escape(words)):
            states.load(path, one, most)
    for content in (b"", b"PK\3\4", b"\x80\x04N."):
        (tmp_path / "streams.npz").write_bytes(content)
        with pytest.raises(states.StateError, match="no file of streams, or damaged"):
            states.load(path, one, 9)
    np.savez(path, ids=np.array([{"a": 1}], object), **{f"state_{name}": v for name, v in one.items()})
    with pytest.raises(states.StateError, match="allow_pickle=False"):
        states.load(path, one, 9)
    for flags, words in [([f"--streams_file={path}"], "damaged"), (["--streams_file=/no/s.npz"], "written"),
                         (["--token_file=/no"], "--token_file=/no: cannot be read"),
                         ([f"--token_file={folder}/santm.json"], "a token is printable ASCII without spaces"),
                         (["--host=no such host"], "cannot listen there")]:
        with pytest.raises(SystemExit) as ended:
            server.main([f"--model={folder}", "--port=0", *flags])
        said = capsys.readouterr().err
        assert ended.value.code == 2 and words in said and said.count("\n") == 1, said


def test_nothing_is_lost_when_the_file_cannot_be_written(folder, tmp_path, monkeypatch):
    model, path = Model(folder), tmp_path / "streams.npz"
    states.save(str(path), {"a": model.first_state}, model.first_state)
    before = path.read_bytes()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match="No space"):
        states.save(str(path), {}, model.first_state)
    assert path.read_bytes() == before and [one.name for one in tmp_path.iterdir()] == ["streams.npz"]
