"""`--search`: what it takes, what it refuses, and the values that come of it."""

import math

import hypothesis
import hypothesis.strategies as st
import pytest

from santm_tf.training import search_space
from santm_tf.training.config import configured
from santm_tf.training.errors import UsageError

SANTM = configured({})


def read(*texts, **given):
    return search_space.read(texts, configured(given))


@hypothesis.given(low=st.floats(1e-8, 1e3), factor=st.floats(1.001, 1e3),
                  form=st.sampled_from(["log", "float"]))
def test_bounds_are_as_given(low, factor, form):
    dimension = read(f"learning_rate = {form}( {low!r} , {low * factor!r} )")["learning_rate"]
    assert dimension.values == (low, low * factor) and dimension.points == math.inf
    assert (dimension.distribution.low, dimension.distribution.high) == dimension.values
    assert dimension.distribution.log == (form == "log")
    assert read(f"learning_rate={dimension.text}")["learning_rate"] == dimension


@pytest.mark.parametrize("text, points, shown", [
    ("units=int(16,128)", 113, ["--units=16", "--units=128"]),
    ("units=log(16,128)", 113, ["--units=16", "--units=128"]),
    ("learning_rate=int(1,3)", 3, ["--learning_rate=1", "--learning_rate=3"]),
    ("mask=choice(learned,uniform)", 2, ["--mask=learned", "--mask=uniform"]),
    ("jit_compile=choice(true, false)", 2, ["--jit_compile", "--nojit_compile"]),
    ("access_rate=choice(auto,0.5)", 2, ["--access_rate=auto", "--access_rate=0.5"]),
    ("access_rate=float(0.1,0.5)", math.inf, ["--access_rate=0.1", "--access_rate=0.5"]),
    ("model=choice(santm,lstm)", 2, ["--model=santm", "--model=lstm"]),
])
def test_values_are_flags(text, points, shown):
    (name, dimension), = read(text).items()
    assert dimension.points == points
    assert [dimension.option.text(value) for value in dimension.values] == shown
    assert dimension.distribution.to_external_repr(dimension.distribution.to_internal_repr(
        dimension.values[1])) == dimension.values[1]


@pytest.mark.parametrize("text, said", [
    ("units", "give NAME=log"),
    ("units=int(16", "give NAME=log"),
    ("units=uniform(1,2)", "give NAME=log"),
    ("lerning_rate=log(1,2)", "there is no flag --lerning_rate"),
    ("units=int(16)", "give two whole numbers"),
    ("units=int(16,a)", "give two whole numbers"),
    ("units=log(1.5,3)", "give two whole numbers"),
    ("units=float(16,32)", "--units takes whole numbers"),
    ("units=int(32,16)", "32 is not below 16; give the lower bound first"),
    ("learning_rate=log(0,1)", "a logarithm needs bounds above 0"),
    ("learning_rate=float(0,1)", "--search: --learning_rate=0.0: must be a number above 0"),
    ("learning_rate=log(1e-3,inf)", "the bounds must be finite"),
    ("learning_rate=log(nan,1)", "the bounds must be finite"),
    ("access_rate=float(0.5,1.5)", "--search: --access_rate=1.5: must be a number in"),
    ("mask=int(1,2)", "--mask takes no numbers"),
    ("mask=choice(learned,nosuch)", "--mask=nosuch: must be"),
    ("mask=choice(learned)", "give two choices or more, each once"),
    ("units=choice(8,8)", "give two choices or more, each once"),
    ("jit_compile=choice(yes,no)", "--jit_compile is true or false"),
    ("seed=int(0,9)", "--seed cannot be searched"),
    ("task=choice(copy,adding)", "--task cannot be searched"),
    ("workdir=choice(a,b)", "--workdir cannot be searched"),
    ("key_width=int(8,32)", "--search: --key_width=8: needs --memory=key_value"),
    ("layers=int(1,3)", "--search: --layers=1: --model=santm does not use it"),
])
def test_what_cannot_be_is_refused_in_one_line(text, said):
    with pytest.raises(UsageError) as error:
        read(text)
    assert said in str(error.value) and "\n" not in str(error.value) and "--search" in str(error.value)


def test_flags_that_go_together_do():
    space = read("key_width=int(8,32)", "dropout=float(0,0.5)", memory="key_value")
    assert search_space.points(space) == math.inf
    with pytest.raises(UsageError, match="dropout is searched already"):
        read("dropout=float(0,0.5)", "dropout=float(0,0.4)")
