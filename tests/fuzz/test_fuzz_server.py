"""A short run of the search for requests that the server answers wrongly."""

import pytest

pytest.importorskip("schemathesis", reason="santm-tf[test] has it")

from serving.model import Model  # noqa: E402
from tests.fuzz import server_api  # noqa: E402


@pytest.fixture(scope="module")
def app():
    return server_api.stand_in()


def test_requests_made_from_the_description_get_right_answers(app):
    assert server_api.fuzz(app, 150) > 100
    assert "/streams/{id}/state" in app.openapi()["paths"]


def test_a_wrong_answer_is_found(app, monkeypatch):
    """The description says numbers."""
    monkeypatch.setattr(Model, "answer", lambda *_: "a text")
    with pytest.raises(BaseException, match="Response violates schema"):
        server_api.fuzz(app, 50)
