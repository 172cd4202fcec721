import random

import numpy as np

from serving.model import Model
from tests.serving_stand_in import (
    FINGERPRINT,
    opened,
    reference,
    refused,
    save_stand_in,
    sequence,
    stepped,
)


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
    other = serve(Model(save_stand_in(str(tmp_path), fingerprint=FINGERPRINT + 1)))
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
