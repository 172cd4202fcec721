import asyncio
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import SANTM
from santm_tf.export import export
from santm_tf.keras import keras
from serving.model import Model
from serving.streams import Steps
from tests.serving_stand_in import (
    POISON,
    in_this_loop,
    opened,
    reference,
    refused,
    save_stand_in,
    sequence,
    stepped,
)


def test_sequences_of_any_lengths_are_predicted(serve):
    rng = random.Random(0)
    inputs = [sequence(rng, steps) for steps in (3, 1, 7)]
    outputs = serve().post("/predict", json={"inputs": inputs}).json()["outputs"]
    assert [len(found) for found in outputs] == [3, 1, 7]
    for found, given in zip(outputs, inputs, strict=True):
        np.testing.assert_allclose(found, reference(given), atol=1e-5)


def test_a_model_of_tokens_that_gives_the_last_output(serve, tmp_path):
    client = serve(Model(save_stand_in(str(tmp_path), vocabulary=5, return_sequences=False)))
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
        steps = Steps(model, most=8)
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


def test_a_santm_streams_what_it_predicts(tmp_path):
    layer = SANTM(4, memory_slots=6, slot_width=4, attention_heads=1, locality=1, access_rate=0.5,
                  mask_period=4, jit_compile=False, return_sequences=True)
    whole = keras.Sequential([keras.Input([None, 2]), layer, keras.layers.Dense(3)])
    export(whole, str(tmp_path))
    rng = random.Random(6)
    given = [sequence(rng, steps) for steps in (9, 5)]

    async def main():
        async with in_this_loop(Model(str(tmp_path))) as client:
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
