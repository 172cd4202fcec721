import pytest

from serving.model import Model
from tests.serving_stand_in import save_stand_in, serving


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """An export of a model whose answers are known."""
    return save_stand_in(str(tmp_path_factory.mktemp("stand_in")))


@pytest.fixture(scope="module")
def model(folder):
    return Model(folder)


@pytest.fixture
def serve(model):
    with serving(model) as client:
        yield client
