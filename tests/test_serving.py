import asyncio
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor

import httpx2
import numpy as np
import pytest
import tensorflow as tf
from fastapi.testclient import TestClient

from santm_tf import SANTM
from santm_tf.export import export
from santm_tf.keras import keras
from serving import server

POISON = 666.0  # the stand-in refuses a step of this
FINGERPRINT = 7


def save_stand_in(folder, vocabulary=None, return_sequences=True, fingerprint=FINGERPRINT):
    """An export with the signatures of a SANTM's: `s_t = 0.5 s_(t-1) + x_t`, `y_t = [s_t ; t]`."""
    row = [] if vocabulary else [2]
    dtype = tf.int32 if vocabulary else tf.float32

    def spec(name, *shape, dtype=tf.float32):
        return tf.TensorSpec([None, *shape], dtype, name)

    class StandIn(tf.Module):
        def first(self, batch):
            return {"s": tf.zeros([batch, *(row or [1])]), "t": tf.zeros([batch], tf.int32),
                    "model": tf.fill([batch], tf.constant(fingerprint, tf.int64))}

        @tf.function(input_signature=[tf.TensorSpec([], tf.int32, "batch")])
        def initial_state(self, batch):
            return self.first(batch)

        @tf.function(input_signature=[spec("inputs", *row, dtype=dtype), spec("s", *(row or [1])),
                                      spec("t", dtype=tf.int32), spec("model", dtype=tf.int64)])
        def step(self, inputs, s, t, model):
            x = tf.reshape(tf.cast(inputs, tf.float32), tf.shape(s))
            tf.debugging.assert_none_equal(x, POISON, message="inputs: poison")
            s, t = 0.5 * s + x, t + 1
            outputs = tf.concat([s, tf.cast(t, tf.float32)[:, None]], 1)
            return {"outputs": outputs, "s": s, "t": t, "model": model}

        @tf.function(input_signature=[spec("inputs", None, *row, dtype=dtype),
                                      spec("lengths", dtype=tf.int32)])
        def serving_default(self, inputs, lengths):
            state, steps = self.first(tf.shape(inputs)[0]), tf.shape(inputs)[1]
            found = tf.TensorArray(tf.float32, steps)
            for i in tf.range(steps):
                state = self.step(inputs[:, i], **state)
                found = found.write(i, state.pop("outputs"))
            outputs = tf.transpose(found.stack(), [1, 0, 2])
            return {"outputs": outputs if return_sequences
                    else tf.gather(outputs, lengths - 1, axis=1, batch_dims=1)}

    model = StandIn()
    tf.saved_model.save(model, folder, {name: getattr(model, name) for name in
                                        ("initial_state", "step", "serving_default")})
    with open(os.path.join(folder, "santm.json"), "w") as file:
        json.dump(facts(vocabulary, return_sequences), file)
    return folder


def facts(vocabulary=None, return_sequences=True, features=2):
    row, dtype = ([], "int32") if vocabulary else ([None], "float32")
    return {"format": server.FORMAT, "return_sequences": return_sequences, "streams": "yes",
            **({"vocabulary": vocabulary} if vocabulary else {"features": features}),
            "outputs": {"kind": "logits", "width": 3}, "inputs": {
                "inputs": {"shape": [None, None, *row], "dtype": dtype},
                "lengths": {"shape": [None], "dtype": "int32"}},
            "step_inputs": {"inputs": {"shape": [None, *row], "dtype": dtype}}}


def reference(inputs):
    """The stand-in's outputs at every step."""
    s, outputs = 0.0, []
    for t, x in enumerate(inputs):
        s = 0.5 * s + np.atleast_1d(np.asarray(x, np.float64))
        outputs.append([*s, t + 1])
    return outputs


def sequence(rng, steps):
    return [[round(rng.uniform(-2, 2), 3) for _ in range(2)] for _ in range(steps)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_stand_in(str(tmp_path_factory.mktemp("stand_in")))


@pytest.fixture(scope="module")
def model(folder):
    return server.Model(folder)


@pytest.fixture
def serve(model):
    """`serve(...)`: a client of a server in this process, whose clock is `client.clock.now`."""
    with contextlib.ExitStack() as stack:
        def client(model=model, most=10, idle=60.0, **options):
            clock = types.SimpleNamespace(now=0.0)
            app = server.create_app(model, server.Sessions(most, idle, lambda: clock.now), **options)
            client = stack.enter_context(TestClient(app))
            client.clock = clock
            return client
        yield client


def opened(client):
    answer = client.post("/streams")
    assert answer.status_code == 201
    return f"/streams/{answer.json()['id']}"


def stepped(client, stream, inputs):
    answer = client.post(stream, json={"inputs": inputs})
    assert answer.status_code == 200, answer.text
    return answer.json()["outputs"]


def refused(answer, status, words):
    assert answer.status_code == status, answer.text
    detail = answer.json()["detail"]
    assert words in detail and "\n" not in detail and len(detail) < 300, detail


def test_sequences_of_any_lengths_are_predicted(serve):
    rng = random.Random(0)
    inputs = [sequence(rng, steps) for steps in (3, 1, 7)]
    outputs = serve().post("/predict", json={"inputs": inputs}).json()["outputs"]
    assert [len(found) for found in outputs] == [3, 1, 7]
    for found, given in zip(outputs, inputs, strict=True):
        np.testing.assert_allclose(found, reference(given), atol=1e-5)


def test_a_model_of_tokens_that_gives_the_last_output(serve, tmp_path):
    client = serve(server.Model(save_stand_in(str(tmp_path), vocabulary=5, return_sequences=False)))
    answer = client.post("/predict", json={"inputs": [[1, 4], [2]]})
    np.testing.assert_allclose(answer.json()["outputs"], [reference([1, 4])[-1], reference([2])[-1]])
    stream = opened(client)
    np.testing.assert_allclose(stepped(client, stream, [1, 4]), reference([1, 4]))
    for bad in (5, -1, 1.0, 1.5, True, "1", None, [1], 10**30):
        refused(client.post(stream, json={"inputs": [bad]}), 422, "inputs[0]: Input should be")
    assert stepped(client, stream, [0])[0][-1] == 3


def test_a_stream_is_the_sequence_however_it_is_cut(serve):
    client, given = serve(), sequence(random.Random(1), 9)
    for cuts in ([9], [1] * 9, [4, 5]):
        stream, outputs, rest = opened(client), [], list(given)
        for steps in cuts:
            outputs += stepped(client, stream, rest[:steps])
            rest = rest[steps:]
        np.testing.assert_allclose(outputs, reference(given), atol=1e-5)


@contextlib.asynccontextmanager
async def in_this_loop(model, most=100, **options):
    app = server.create_app(model, server.Sessions(most, 60.0), **options)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
        yield client


@pytest.mark.parametrize("seed", range(3))
def test_interleaved_streams_are_each_as_alone(model, seed):
    rng = random.Random(seed)

    async def stream(client):
        name = (await client.post("/streams")).json()["id"]
        given = sequence(rng, rng.randint(1, 12))
        outputs, rest = [], list(given)
        while rest:
            for _ in range(rng.randint(0, 3)):
                await asyncio.sleep(0)
            if rng.random() < 0.2:  # a request that fails after its first step
                bad = await client.post(f"/streams/{name}", json={"inputs": [rest[0], [POISON, 0]]})
                refused(bad, 422, "the model refuses this: inputs: poison")
            steps = rng.randint(1, 3)
            answer = await client.post(f"/streams/{name}", json={"inputs": rest[:steps]})
            assert answer.status_code == 200, answer.text
            outputs += answer.json()["outputs"]
            rest = rest[steps:]
        np.testing.assert_allclose(outputs, reference(given), atol=1e-5)

    async def main():
        async with in_this_loop(model, max_batch=4) as client:
            await asyncio.gather(*[stream(client) for _ in range(20)])

    asyncio.run(main())


def test_simultaneous_requests_of_one_stream_are_ordered(model):
    given = [sequence(random.Random(i), 1 + i % 3) for i in range(30)]

    async def main():
        async with in_this_loop(model) as client:
            name = (await client.post("/streams")).json()["id"]
            return await asyncio.gather(*[client.post(f"/streams/{name}", json={"inputs": inputs})
                                          for inputs in given])

    outputs = [answer.json()["outputs"] for answer in asyncio.run(main())]
    order = sorted(range(30), key=lambda i: outputs[i][0][-1])  # the last output counts the steps
    np.testing.assert_allclose([row for i in order for row in outputs[i]],
                               reference([row for i in order for row in given[i]]), atol=1e-5)


def test_a_request_that_waits_for_a_stream_while_it_is_closed(model):
    async def main():
        async with in_this_loop(model) as client:
            name = (await client.post("/streams")).json()["id"]
            steps = client.post(f"/streams/{name}", json={"inputs": [[1, 2]] * 3})
            again = client.post(f"/streams/{name}", json={"inputs": [[1, 2]]})
            return await asyncio.gather(steps, client.delete(f"/streams/{name}"), again)

    done, closed, late = asyncio.run(main())
    assert (done.status_code, closed.status_code) == (200, 204)
    refused(late, 404, "was closed")


def test_steps_that_wait_together_run_as_one_batch(model, monkeypatch):
    sizes, step = [], model.step
    monkeypatch.setattr(model, "step",
                        lambda given, state: sizes.append(len(given["inputs"])) or step(given, state))

    async def main():
        steps = server.Steps(model, most=8)
        await asyncio.gather(*[steps({"inputs": [0.0, 0.0]}, model.first_state) for _ in range(20)])

    asyncio.run(main())
    assert sizes == [8, 8, 4]


def test_there_are_so_many_streams_and_no_more(serve):
    client = serve(most=2)
    streams = [opened(client)]
    client.clock.now = 25.0
    streams.append(opened(client))
    answer = client.post("/streams")
    refused(answer, 429, "2 streams are open, the most there may be")
    assert answer.headers["Retry-After"] == "35"
    assert client.delete(streams[1]).status_code == 204
    refused(client.post(streams[1], json={"inputs": [[0, 0]]}), 404, "was closed")
    opened(client)
    client.clock.now = 60.0  # the first was unused for 60 seconds
    opened(client)
    refused(client.post(streams[0], json={"inputs": [[0, 0]]}), 404, "unused for 60 seconds and expired")
    assert client.get("/model").json()["open_streams"] == 2


def test_a_stream_in_use_lives_on(serve):
    client = serve(idle=60.0)
    used, unused = opened(client), opened(client)
    for client.clock.now in (30.0, 70.0):
        stepped(client, used, [[0, 0]])
    assert stepped(client, used, [[0, 0]])[0][-1] == 3
    for answer in (client.get(f"{unused}/state"), client.delete(unused), client.delete("/streams/none"),
                   client.post("/streams/none", json={"inputs": [[0, 0]]}),
                   client.put("/streams/none/state", json={"state": {}})):
        refused(answer, 404, "expired, was closed, or never was")


def test_a_state_is_taken_out_and_put_back(serve):
    client, given = serve(), sequence(random.Random(2), 6)
    stream, other = opened(client), opened(client)
    stepped(client, stream, given[:4])
    state = client.get(f"{stream}/state").json()
    assert client.put(f"{other}/state", json=state).status_code == 204
    for name in (stream, other):
        np.testing.assert_allclose(stepped(client, name, given[4:]), reference(given)[4:], atol=1e-5)


def test_a_state_that_is_none_of_this_models_is_refused(serve, tmp_path):
    client, given = serve(), sequence(random.Random(3), 4)
    other = serve(server.Model(save_stand_in(str(tmp_path), fingerprint=FINGERPRINT + 1)))
    foreign = other.get(f"{opened(other)}/state").json()["state"]
    stream = opened(client)
    stepped(client, stream, given[:3])
    own = client.get(f"{stream}/state").json()["state"]
    nan = {"s": "AADAfwAAwH8="}
    for state, status, words in [
            (foreign, 409, "state: of another model"), ({}, 422, "this model's has model, s, t, no others"),
            ({**own, "more": ""}, 422, "state: this model's has"),
            ({**own, "s": own["t"]}, 422, "s has 4 bytes, not 8"),
            ({**own, "s": "!"}, 422, "s has 0 bytes"), ({**own, "s": 3}, 422, "state.s: "),
            ({**own, **nan}, 422, "not all finite"), ([], 422, "state: Input should be")]:
        refused(client.put(f"{stream}/state", json={"state": state}), status, words)
    np.testing.assert_allclose(stepped(client, stream, given[3:]), reference(given)[3:], atol=1e-5)


BAD = {
    "not JSON": ("{", 422, "the body is not JSON"),
    "empty": ("", 422, "the body: Field required; send JSON"),
    "no object": ("[]", 422, "the body: Input should be a valid dictionary"),
    "no inputs": ("{}", 422, "inputs: Field required"),
    "a name too many": ('{"state": 1, "inputs": [[1, 2]]}', 422, "state: Extra inputs are not permitted"),
    "a long name": ('{"%s\\n": 1, "inputs": [[1, 2]]}' % ("x" * 9999), 422, "[...]"),
    "no UTF-8": (b'"\xff"', 400, "parsing the body"),
    "nested deeply": ("[" * 100_000, 400, "parsing the body"),
    "a number of 5000 digits": ('{"inputs": [[1, ' + "9" * 5000 + "]]}", 400, "parsing the body"),
    "NaN": ('{"inputs": [[1, 2], [NaN, 2]]}', 422, "inputs[1][0]: Input should be a finite number"),
    "infinite": ('{"inputs": [[1, -Infinity]]}', 422, "inputs[0][1]: Input should be a finite number"),
    "too large a power": ('{"inputs": [[1, 1e999]]}', 422, "inputs[0][1]: Input should be a finite number"),
    "too large for float32": ('{"inputs": [[1, 1e39]]}', 422, "inputs[0][1]: Input should be less than"),
    "text": ('{"inputs": [[1, "2"]]}', 422, "inputs[0][1]: Input should be a valid number"),
    "true": ('{"inputs": [[1, true]]}', 422, "inputs[0][1]: Input should be a valid number"),
    "null": ('{"inputs": [null]}', 422, "inputs[0]: Input should be a valid list"),
    "no steps": ('{"inputs": []}', 422, "inputs: List should have at least 1 item"),
    "too narrow": ('{"inputs": [[1, 2], [1]]}', 422, "inputs[1]: List should have at least 2 items"),
    "too wide": ('{"inputs": [[1, 2], [1, 2, 3]]}', 422, "inputs[1]: List should have at most 2 items"),
    "too many steps": ('{"inputs": [' + "[1, 2], " * 20 + "[1, 2]]}", 422, "inputs: List should have"),
    "too large a body": ('{"inputs": [[1, 2' + " " * 200_000 + "]]}", 413, "the body is over 104858 bytes"),
    "outputs overflow": ('{"inputs": [[3e38, 0], [3e38, 0]]}', 422, "not all finite"),
}


@pytest.mark.parametrize("of", ["steps", "predict"])
def test_what_cannot_work_is_refused_in_a_line_and_harms_nothing(serve, of):
    client, given = serve(max_steps=20, max_body_mib=0.1), sequence(random.Random(4), 2)
    stream, beside = opened(client), opened(client)
    for each in (stream, beside):
        stepped(client, each, given[:1])
    for body, status, words in BAD.values():
        if of == "predict" and isinstance(body, str):  # the same within a batch
            body = body.replace('"inputs": [', '"inputs": [[').replace("]}", "]]}")
            words = re.sub(r"inputs(?=\[\d|: List)", "inputs[0]", words)
        refused(client.post("/predict" if of == "predict" else stream, content=body,
                            headers={"Content-Type": "application/json"}), status, words)
    for each in (stream, beside):
        np.testing.assert_allclose(stepped(client, each, given[1:]), reference(given)[1:], atol=1e-5)


def test_what_else_cannot_be_predicted(serve):
    client = serve(max_steps=20)
    for inputs, status, words in [
            ([], 422, "inputs: List should have at least 1 item"),
            ([[[1, 2]], []], 422, "inputs[1]: List should have at least 1 item"),
            ([[[1, 2]], [1, 2]], 422, "inputs[1][0]: Input should be a valid list"),
            ([[[1, 2]] * 11, [[1, 2]]], 413, "2 sequences times 11 steps, the longest's, are over 20"),
            ([[[1, 2]] * 21], 422, "inputs[0]: List should have at most 20 items")]:
        refused(client.post("/predict", json={"inputs": inputs}), status, words)
    refused(client.post("/predict", data={"inputs": "1"}), 422, "send JSON, and Content-Type: application/j")
    refused(client.get("/predict"), 405, "Not Allowed")
    refused(client.get("/nothing"), 404, "Not Found")


def test_the_server_answers_during_long_predictions_which_are_so_many_at_once(model, serve, monkeypatch):
    go, entered, running, most = threading.Event(), threading.Semaphore(0), [], []

    def predict(given):
        running.append(None)
        most.append(len(running))
        entered.release()
        assert go.wait(60)
        running.pop()
        return [{"outputs": np.zeros([1, 1])}]

    monkeypatch.setattr(model, "predict", predict)
    client = serve(threads=2)
    with ThreadPoolExecutor(5) as pool:
        answers = [pool.submit(client.post, "/predict", json={"inputs": [[[1, 2]]]}) for _ in range(5)]
        for _ in range(2):
            assert entered.acquire(timeout=60)
        assert client.get("/health").json() == {"status": "ok"}
        assert stepped(client, opened(client), [[1, 2]]) == [[1, 2, 1]]
        go.set()
    assert [answer.result().status_code for answer in answers] == [200] * 5 and max(most) == 2


def without(folder, tmp_path, **changes):
    """A copy of an export with other files; None leaves one out."""
    for at, _, names in os.walk(folder):
        inside = tmp_path / os.path.relpath(at, folder)
        inside.mkdir(exist_ok=True)
        for name in names:
            with open(os.path.join(at, name), "rb") as file:
                content = changes.get(name.split(".")[0], file.read())
            if content is not None:
                (inside / name).write_bytes(content)
    return str(tmp_path)


@pytest.mark.parametrize("changes, words", [
    ({"santm": None}, "santm.json: no such file; --model takes what"),
    ({"santm": b"{"}, "damaged (JSONDecodeError"),
    ({"santm": b"\xff"}, "damaged (UnicodeDecodeError"),
    ({"santm": b"[]"}, "damaged (TypeError"),
    ({"santm": b'{"format": 2}'}, "damaged (KeyError: 'vocabulary'"),
    ({"santm": json.dumps(facts(features="2")).encode()}, "a value of the wrong kind"),
    ({"santm": json.dumps(facts(features=3)).encode()}, "damaged"),
    ({"santm": b'{"format": 1}'}, "format 1; this server reads 2"),
    ({"saved_model": None}, "damaged, or no export of this project"),
    ({"saved_model": b"no protocol buffer"}, "damaged, or no export of this project"),
    ({"variables": None}, "damaged, or no export of this project"),
    ({"variables": b"short"}, "damaged, or no export of this project"),
], ids=str)
def test_what_is_no_export_is_refused(folder, tmp_path, capsys, changes, words):
    with pytest.raises(SystemExit) as ended:
        server.main([f"--model={without(folder, tmp_path, **changes)}"])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("error: ") and words in said[0], said


def test_another_saved_model_is_refused(tmp_path, capsys):
    tf.saved_model.save(tf.Module(), str(tmp_path))
    (tmp_path / "santm.json").write_text(json.dumps(facts()))
    with pytest.raises(SystemExit) as ended:
        server.main([f"--model={tmp_path}"])
    assert ended.value.code == 2 and "no export of this project (KeyError" in capsys.readouterr().err


def test_a_folder_that_tensorflow_takes_for_a_pattern_is_refused(folder, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        server.main([f"--model={without(folder, tmp_path / '[ab]')}"])
    assert ended.value.code == 2 and "[ab]: TensorFlow reads" in capsys.readouterr().err


def test_flags_are_checked(capsys):
    for flag in ("--max_sessions=0", "--idle_seconds=nan", "--threads=x", "--max_body_mib=inf"):
        with pytest.raises(SystemExit) as ended:
            server.main(["--model=x", flag])
        assert ended.value.code == 2 and f"{flag.split('=')[0]}: invalid positive" in capsys.readouterr().err


def test_a_santm_streams_what_it_predicts(tmp_path):
    layer = SANTM(4, memory_slots=6, slot_width=4, attention_heads=1, locality=1, access_rate=0.5,
                  mask_period=4, jit_compile=False, return_sequences=True)
    whole = keras.Sequential([keras.Input([None, 2]), layer, keras.layers.Dense(3)])
    export(whole, str(tmp_path))
    rng = random.Random(6)
    given = [sequence(rng, steps) for steps in (9, 5)]

    async def main():
        async with in_this_loop(server.Model(str(tmp_path))) as client:
            async def sent(method, path, **body):
                answer = await client.request(method, path, json=body)
                assert answer.status_code // 100 == 2, answer.text
                return answer.json() if answer.content else None

            first, second, third = [f"/streams/{(await sent('POST', '/streams'))['id']}" for _ in range(3)]
            begun = await sent("POST", first, inputs=given[0][:3])
            await sent("PUT", f"{third}/state", **await sent("GET", f"{first}/state"))
            # In batches, whose rows are at different steps.
            streamed = await asyncio.gather(sent("POST", third, inputs=given[0][3:]),
                                            sent("POST", second, inputs=given[1]))
            predicted = await sent("POST", "/predict", inputs=given)
            return ([begun["outputs"] + streamed[0]["outputs"], streamed[1]["outputs"]],
                    predicted["outputs"])

    for found in asyncio.run(main()):
        for outputs, inputs in zip(found, given, strict=True):
            np.testing.assert_allclose(outputs, whole(tf.constant([inputs])).numpy()[0], atol=1e-5)


def test_a_process_serves_and_ends_on_sigterm(folder):
    process = subprocess.Popen([sys.executable, server.__file__, f"--model={folder}", "--port=0"],
                               stderr=subprocess.PIPE, text=True)
    try:
        found = (re.search(r"http://[\d.:]+", line) for line in process.stderr)
        url = next(filter(None, found))[0]
        with httpx2.Client(base_url=url) as client:
            assert client.get("/health").json() == {"status": "ok"}
            given = sequence(random.Random(5), 4)
            np.testing.assert_allclose(stepped(client, opened(client), given), reference(given), atol=1e-5)
            refused(client.post("/predict", content=b"[" * 5_000_000), 413, "the body is over")
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "Traceback" not in process.stderr.read()
    finally:
        process.kill()
        process.wait()
