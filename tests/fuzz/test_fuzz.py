"""A short search, always the same, in each area; and the inputs that failed once."""

import importlib

import pytest

from santm_tf.training.errors import UsageError
from santm_tf.training.flags import program
from tests.fuzz import flags, search
from tests.helpers import in_keras_3_alone

pytestmark = in_keras_3_alone
INPUTS = {"flags": 40, "readers": 25, "workdirs": 25, "checkpoints": 30, "signatures": 40}


@pytest.fixture(params=search.AREAS)
def area(request):
    return importlib.import_module(f"tests.fuzz.{request.param}"), request.param


def test_each_input_is_accepted_or_refused_in_one_line(area):
    module, name = area
    found = search.search(module, INPUTS[name])
    if found.error is not None:
        raise found.error
    assert found.inputs > INPUTS[name] / 2


def test_what_failed_once_does_not_again(area):
    module, name = area
    for case in search.kept(name):
        search.accepts(module, case)


def test_a_failure_is_found_and_can_be_kept(monkeypatch, tmp_path):
    def broken(argv):
        raise KeyError(argv[0])

    monkeypatch.setattr(flags, "check", broken)
    found = search.search(flags, 5)
    assert isinstance(found.error, KeyError) and found.case[2:4] == ["--units=4", "--workdir=runs/none"]
    monkeypatch.setattr(search, "KEPT", tmp_path)
    search.keep(tmp_path / "flags", found.case)
    assert search.kept("flags") == [found.case]


def test_an_error_that_quotes_a_line_end_is_one_line(capsys):
    def main(argv):
        raise UsageError(argv[0])

    with pytest.raises(SystemExit):
        program(main, [search.QUOTED])
    assert capsys.readouterr().err == "error: a\\nb\n"
