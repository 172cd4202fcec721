"""What every model's `make` says of its options, and how a model is made by name."""

import inspect
import re
import subprocess
import sys
import typing

import pytest
import tensorflow as tf

from santm_tf import baselines
from santm_tf.errors import ArgumentError
from santm_tf.tasks.options import read

CONTEXT = {"steps", "return_sequences", "stateful", "seed", "jit_compile"}
each = pytest.mark.parametrize("name", baselines.NAMES)


def options(name):
    return [p for p in taken(baselines.load(name).make) if p.kind is not p.KEYWORD_ONLY]


def taken(make):
    """The parameters of a `make`, those that it takes from another first."""
    own = list(inspect.signature(make).parameters.values())
    if own[-1].kind is not own[-1].VAR_KEYWORD:
        return own
    names = [p.name for p in own]
    return [p for p in taken(own[-1].annotation) if p.name not in names] + own[:-1]


def described(make):
    """The names that `Args:` has a text of, those that it takes from another first."""
    *_, last = inspect.signature(make).parameters.values()
    others = described(last.annotation) if last.kind is last.VAR_KEYWORD else []
    text = inspect.getdoc(make).partition("Args:\n")[2].split("\n\n")[0]
    return others + re.findall(r"^  (\w+): \S", text, re.MULTILINE)


@each
def test_an_option_has_a_type_a_text_and_a_default_within_its_bounds(name):
    assert described(baselines.load(name).make) == [p.name for p in options(name)]
    for option in options(name):
        kinds = typing.get_args(option.annotation) or (option.annotation,)
        if typing.get_origin(option.annotation) is typing.Annotated:
            kind, interval = kinds
            low, high = map(float, interval[1:-1].split(","))
            assert low < option.default < high or (interval[0] == "[" and option.default == low) or (
                interval[-1] == "]" and option.default == high)
            assert type(option.default) is kind
        elif typing.get_origin(option.annotation) is typing.Literal:
            assert option.default in kinds
        else:
            assert option.default is None if type(None) in kinds else type(option.default) in kinds


@each
def test_what_is_no_option_comes_by_keyword(name):
    context = {p.name for p in taken(baselines.load(name).make) if p.kind is p.KEYWORD_ONLY}
    assert "return_sequences" in context and context <= CONTEXT


@each
def test_options_taken_from_another_model_are_among_its_own(name):
    make = baselines.load(name).make
    assert baselines.options(name) == [p.name for p in options(name)]
    assert sorted(baselines.parameters(make)) == sorted(p.name for p in taken(make))


@each
def test_what_the_flags_are_read_from_is_what_make_takes(name):
    found = read(f"{baselines.MODELS[name]}:make")
    assert [(o.name, o.default) for o in found.values()] == [(p.name, p.default) for p in options(name)]
    assert all(o.help for o in found.values())


@each
def test_width_is_an_option(name):
    model, names = baselines.load(name), baselines.options(name)
    assert {option for option in (model.width, model.multiple, model.finer) if option} <= set(names)


def test_an_option_that_a_model_does_not_take_is_named():
    with pytest.raises(ArgumentError, match=r"^model=lstm: it has no option routes=4; it takes units, "
                                            r"memory_horizon, dropout$"):
        baselines.make("lstm", {"units": 4, "routes": 4}, return_sequences=False)


def test_options_and_context_reach_the_layer():
    layer = baselines.make("ntm", {"units": 4, "memory_slots": 5}, steps=7, return_sequences=True, seed=3,
                           jit_compile=False)
    assert layer(tf.zeros([2, 7, 1])).shape == [2, 7, 4]
    assert layer.recurrent.cell.memory_slots == 5 and layer.get_config()["seed"] == 3


def test_a_model_that_cannot_be_stateful_is_named():
    with pytest.raises(ArgumentError, match="^model=mamba: it cannot go on from window to window"):
        baselines.make("mamba", {}, return_sequences=True, stateful=True)


def test_an_access_rate_that_would_rise_is_named():
    with pytest.raises(ArgumentError, match="access_rate=0.5; it must be at most initial_access_rate=0.25"):
        baselines.make("santm", {"access_rate": 0.5, "initial_access_rate": 0.25}, return_sequences=False)


def test_a_period_of_an_adaptive_access_is_named():
    with pytest.raises(ArgumentError, match="mask_period=5; mask=adaptive has no period, leave it out"):
        baselines.make("santm", {"mask": "adaptive", "mask_period": 5}, return_sequences=False)


def test_names_are_known_without_tensorflow():
    code = "import sys, santm_tf.baselines as b; sys.exit('tensorflow' in sys.modules or not b.NAMES)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
