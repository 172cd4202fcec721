"""What the server may hold and whom it answers: memory, its figures, the token."""

import asyncio
import json
import random
import re

import httpx2
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families

from santm_tf.export import export
from santm_tf.keras import keras
from serving.app import Bounds, create_app
from serving.facts import ExportError
from serving.footprint import Footprint
from serving.guard import Limits
from serving.memory import Memory, trim
from serving.model import Model
from serving.streams import Sessions
from tests.serving_stand_in import opened, reference, refused, sequence, stepped

layers = keras.layers
MIB = 2**20


def test_sequences_are_predicted_in_parts_that_fit(serve, model, monkeypatch):
    rng, sizes, predict = random.Random(0), [], model.predict
    inputs = [sequence(rng, rng.randint(1, 9)) for _ in range(40)]
    monkeypatch.setattr(model, "row", Footprint(0.0, MIB, 0.0))  # a MiB a step
    monkeypatch.setattr(model, "predict", lambda given: sizes.append(
        len(given["inputs"]) * max(map(len, given["inputs"]))) or predict(given))
    client = serve(max_memory_mib=120.0)  # 40 MiB compute, 20 of them predictions
    outputs = client.post("/predict", json={"inputs": inputs}).json()["outputs"]
    for found, given in zip(outputs, inputs, strict=True):
        np.testing.assert_allclose(found, reference(given), atol=1e-5)
    assert len(sizes) > 8 and max(sizes) <= 20
    refused(client.post("/predict", json={"inputs": [inputs[0], sequence(rng, 21)]}), 413,
            "inputs[1]: 21 long, it needs up to 21 MiB; a prediction may take 20 MiB (--max_memory_mib)")


def recurrent():
    return [keras.Input([None, 2]), layers.LSTM(8, return_sequences=True), layers.Dense(3)]


def attention():
    inputs = keras.Input([None, 8])
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    return keras.Model(inputs, layers.Dense(3)(layers.GlobalAveragePooling1D()(x)))


@pytest.mark.parametrize("made, rows, steps, power", [(lambda: keras.Sequential(recurrent()), 512, 300, 1),
                                                      (attention, 2, 1500, 2)], ids=["steps", "pairs"])
def test_a_footprint_is_no_less_than_what_a_call_takes(made, rows, steps, power, tmp_path):
    """Linux says the most that a process held since it was asked to forget."""
    export(made(), str(tmp_path))
    model = Model(str(tmp_path))
    size = model.row.of(steps) * rows
    assert model.row[power] > 0 and not any(model.row[power + 1:])
    width = model.facts["features"]
    given = {"inputs": np.zeros([rows, steps, width], np.float32),
             "lengths": np.full([rows], steps, np.int32)}
    model._predict(inputs=given["inputs"][:1, :8], lengths=np.int32([8]))  # a short one: its memory is kept
    trim(0)  # else the call takes what other tests have freed
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        before = status("VmRSS")
    except OSError as error:
        pytest.skip(f"no /proc/self/clear_refs ({error})")
    found = model._predict(**given)
    taken = status("VmHWM") - before
    assert found and 8 * MIB < taken < size + 8 * MIB, (taken / MIB, size / MIB)


def status(name):
    with open("/proc/self/status") as file:
        return 1024 * int(re.search(rf"{name}:\s+(\d+)", file.read())[1])


def test_streams_and_steps_are_so_many_as_fit(model, monkeypatch):
    monkeypatch.setattr(model, "state_bytes", MIB)
    assert Bounds(max_memory_mib=90.0).streams(model, 1000) == 30
    assert Bounds(max_memory_mib=90.0).streams(model, 7) == 7
    with pytest.raises(ExportError, match="--max_memory_mib=0.5: a stream of this model needs 3"):
        Bounds(max_memory_mib=0.5).streams(model, 1000)


def test_requests_take_turns_with_the_memory():
    async def main():
        memory, order = Memory(10), []

        async def hold(name, size):
            async with memory.held(size):
                order.append(name)
                await asyncio.sleep(0.01)

        asked = [("a", 6), ("b", 6), ("c", 10), ("d", 4), ("e", 0)]
        tasks = [asyncio.create_task(hold(*one)) for one in asked]
        await asyncio.sleep(0)
        tasks[2].cancel()  # in the line
        await asyncio.gather(*tasks, return_exceptions=True)
        return order, memory.free

    assert asyncio.run(main()) == (["a", "e", "b", "d"], 10)


def test_what_is_too_much_is_refused_before_it_is_understood(serve):
    client = serve(max_body_mib=1.0, max_memory_mib=30.0)
    body = json.dumps({"inputs": [[1.0, 2.0]] * 32000}).encode()
    refused(client.post(opened(client), content=body, headers={"Content-Type": "application/json"}), 413,
            "requests may hold 10 MiB (--max_memory_mib)")


def test_bodies_that_come_at_once_are_so_many(model):
    """All are sent to a server that reads none to its end."""
    async def main():
        app = Limits(create_app(model, Sessions(9, 60.0)), 2**20, Memory(4 * 3000), lambda scope, length: 0)
        go = asyncio.Event()

        async def body():
            yield b" " * 2000
            await go.wait()

        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
            first = asyncio.create_task(client.post("/predict", content=body()))
            await asyncio.sleep(0.05)
            second = await client.post("/predict", content=b" " * 2000)
            go.set()
            return second, await first, await client.post("/predict", content=b" " * 2000)

    second, *others = asyncio.run(main())
    refused(second, 503, "too many bodies at once; try again")
    assert second.headers["Retry-After"] == "1" and [one.status_code for one in others] == [422, 422]


def test_prometheus_reads_figures(serve):
    client = serve()
    stepped(client, opened(client), [[1, 2], [3, 4]])
    client.post("/predict", json={"inputs": [[[1, 2]]] * 3})
    client.request("BREW", "/teapot")
    for path in ("/streams/one", "/streams/two"):
        client.delete(path)
    answer = client.get("/metrics")
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    found = {(sample.name, *sample.labels.values()): sample.value
             for family in text_string_to_metric_families(answer.text) for sample in family.samples}
    assert found["santm_requests_total", "POST", "/streams/{id}", "200"] == 1
    assert found["santm_requests_total", "DELETE", "/streams/{id}", "404"] == 2
    assert found["santm_requests_total", "other", "other", "404"] == 1
    assert found["santm_request_seconds_count", "POST", "/predict"] == 1
    assert (found["santm_steps_total",], found["santm_sequences_total",]) == (2, 3)
    assert found["santm_streams",] == 1
    assert found["santm_requests_running",] == 1 and found["santm_memory_free_bytes",] > MIB
    assert found["process_resident_memory_bytes",] > MIB


def test_health_is_asked_by_head_too(serve):
    answer = serve().head("/health")
    assert (answer.status_code, answer.content) == (200, b"")


def test_a_token_is_asked_for(serve):
    client = serve(token="s3cret")
    assert client.get("/health").status_code == client.head("/health").status_code == 200
    for given in ({}, {"Authorization": "Bearer s3cre"}, {"Authorization": "Basic s3cret"},
                  {"Authorization": b"Bearer \xff"}):
        for path in ("/metrics", "/model", "/openapi.json", "/nothing"):
            answer = client.get(path, headers=given)
            refused(answer, 401, "send Authorization: Bearer")
            assert answer.headers["WWW-Authenticate"] == "Bearer"
        refused(client.post("/streams", headers=given), 401, "send Authorization: Bearer")
    client.headers["Authorization"] = "Bearer s3cret"
    assert stepped(client, opened(client), [[1, 2]]) == [[1, 2, 1]]
    described = client.get("/openapi.json").json()
    assert "401" in described["paths"]["/predict"]["post"]["responses"]
    assert described["components"]["securitySchemes"]
