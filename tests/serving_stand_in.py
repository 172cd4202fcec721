"""A stand-in for an exported SANTM, whose outputs are known, and clients of a server in this process."""

import contextlib
import json
import os
import types

import httpx2
import numpy as np
import tensorflow as tf
from fastapi.testclient import TestClient

from serving.app import Bounds, create_app
from serving.facts import FORMAT
from serving.streams import Sessions

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
    return {"format": FORMAT, "return_sequences": return_sequences, "streams": "yes",
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


@contextlib.contextmanager
def serving(model):
    """`serve(...)`: a client of a server in this process, whose clock is `client.clock.now`."""
    with contextlib.ExitStack() as stack:
        def client(model=model, most=10, idle=60.0, token=None, save=None, sessions=None, **bounds):
            clock = types.SimpleNamespace(now=0.0)
            sessions = sessions or Sessions(most, idle, lambda: clock.now)
            app = create_app(model, sessions, Bounds(**bounds), token, save)
            client = stack.enter_context(TestClient(app))
            client.clock = clock
            return client
        yield client


@contextlib.asynccontextmanager
async def in_this_loop(model, most=100, **options):
    app = create_app(model, Sessions(most, 60.0), Bounds(**options))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test") as client:
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
