"""Requests that are made from the server's own description of its API, right and wrong ones.

`python -m tests.fuzz.server_api --minutes=30` looks for new ones. Every answer must be none of the server's
errors, have a status and a body that the description has, and refuse what it does not allow, in a line.
"""

import argparse
import tempfile
import time

import hypothesis
import hypothesis.strategies as st
import schemathesis
from schemathesis.checks import load_all_checks
from schemathesis.specs.openapi.checks import positive_data_acceptance

from serving.app import Bounds, create_app
from serving.model import Model
from serving.streams import Sessions
from tests.serving_stand_in import save_stand_in

BOUNDS = Bounds(max_steps=64, max_body_mib=0.25, max_memory_mib=192)


def fuzz(app, examples, seed=0):
    """Sends about so many requests; an error, which shows the request, for an answer that is wrong."""
    load_all_checks()
    schema = schemathesis.openapi.from_asgi("/openapi.json", app)
    operations = [found.ok() for found in schema.get_all_operations()]
    right, wrong = schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE
    kinds = [(one, mode) for one in operations for mode in ((right, wrong) if one.body else (right,))]
    sent = 0
    for operation, mode in kinds:
        for known in (False, True) if "{id}" in operation.path else (False,):
            sent += _requests(operation, mode, known, max(1, examples // len(kinds)), seed)
    return sent


def _requests(operation, mode, known, examples, seed):
    """Requests of one kind, to streams that are open or to whatever the description allows."""
    sent = 0

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=examples, deadline=None, database=None,
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(st.data())
    def run(data):
        nonlocal sent
        path = {"path_parameters": {"id": _opened(operation)}} if known else {}
        case = data.draw(operation.as_strategy(mode, **path))
        answer = case.call()
        sent += 1
        # Limits beyond the description, as that of all steps together, may refuse what it allows.
        case.validate_response(answer, excluded_checks=[positive_data_acceptance])
        if answer.status_code >= 400:
            detail = answer.json()["detail"]
            assert isinstance(detail, str) and "\n" not in detail and len(detail) < 300, detail

    run()
    return sent


def _opened(operation):
    opened = operation.schema["/streams"]["POST"].Case().call()
    return opened.json()["id"]


def stand_in():
    """The application of a model that is known, with low limits."""
    with tempfile.TemporaryDirectory() as folder:
        model = Model(save_stand_in(folder))
    return create_app(model, Sessions(10**6, 60.0), BOUNDS, save=lambda states: None)


def main():
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.server_api")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=None, help="of the first round (default: the time)")
    options = parser.parse_args()
    app, end, sent = stand_in(), time.monotonic() + 60 * options.minutes, 0
    seed = int(time.time()) if options.seed is None else options.seed
    while time.monotonic() < end:
        print(f"seed {seed}", flush=True)
        sent += fuzz(app, 200, seed)
        seed += 1
    print(f"{sent} requests, no wrong answer")


if __name__ == "__main__":
    main()
