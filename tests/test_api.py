"""docs/api/index.md lists the public names. `python -m tests.test_api` writes the texts beside them anew."""

import importlib
import inspect
import pathlib
import re
import warnings

import pytest

import santm_tf
from santm_tf import baselines, tasks
from santm_tf.lstm import ChronoBias

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "api" / "index.md"
ROW = re.compile(r"^\| `([\w.-]+)` \| (.*) \|$", re.MULTILINE)
SCRIPTS = dict(re.findall(r'^(santm-\w+) = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE))


def named(where):
    """What `module:name` is, or `module.name`."""
    module, _, name = where.replace(":", ".").rpartition(".")
    return getattr(importlib.import_module(module), name)


FOUND = {  # by the page's headings, how a name there is found
    "Layers and callbacks": lambda name: getattr(santm_tf, name),
    "Functions and errors": named,
    "Models": lambda name: importlib.import_module(baselines.MODELS[name]),
    "Tasks": lambda name: named(tasks.TASKS[name]),
    "Commands": lambda name: named(SCRIPTS[name]),
}


def sections():
    """The page's parts, `{heading: text}`."""
    _, *parts = PAGE.read_text().split("\n## ")
    return {part.partition("\n")[0]: part for part in parts}


def names(heading):
    return [name for name, _ in ROW.findall(sections()[heading])]


def line(heading, name):
    """The first line of a name's docstring."""
    return inspect.getdoc(FOUND[heading](name)).partition("\n")[0]


@pytest.mark.parametrize("heading", FOUND)
def test_a_name_stands_beside_the_first_line_of_its_docstring(heading):
    rows = ROW.findall(sections()[heading])
    assert [(name, line(heading, name)) for name, _ in rows] == rows


@pytest.mark.parametrize("heading, all_", [
    ("Layers and callbacks", santm_tf.__all__), ("Models", baselines.NAMES), ("Tasks", tasks.NAMES),
    ("Commands", SCRIPTS)])
def test_the_page_has_every_name(heading, all_):
    assert sorted(names(heading)) == sorted(all_)


def public():
    """The public classes and functions, and the classes' own public methods."""
    for heading in ("Layers and callbacks", "Functions and errors"):
        for name in names(heading):
            if inspect.isclass(it := FOUND[heading](name)):
                for method, value in vars(it).items():
                    value = getattr(value, "fget", getattr(value, "__func__", value))
                    if inspect.isfunction(value) and (method == "__init__" or method[0] != "_") and (
                            inspect.unwrap(value).__qualname__ == f"{it.__qualname__}.{method}"):
                        yield f"{name}.{method}", value
            elif inspect.isfunction(it):
                yield name, it


@pytest.mark.parametrize("function", [pytest.param(it, id=name) for name, it in public()])
def test_public_names_have_type_hints(function):
    signature = inspect.signature(function)
    given = [p for p in signature.parameters.values() if p.name not in ("self", "cls")
             and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    assert [p.name for p in given if p.annotation is p.empty] == []
    assert function.__name__ == "__init__" or signature.return_annotation is not signature.empty


@pytest.mark.parametrize("kind, old, new, value", [
    (santm_tf.SANTM, "max_steps", "memory_horizon", 9), (santm_tf.SANTM, "access_mask", "access", "random"),
    (santm_tf.CascadeLSTMCell, "max_steps", "memory_horizon", 9),
    (ChronoBias, "max_steps", "memory_horizon", 9)])
def test_an_arguments_earlier_name_works_and_warns(kind, old, new, value):
    given = {} if kind is ChronoBias else {"units": 4, "name": "made"}
    config = kind(**given, **{new: value}).get_config()
    with pytest.warns(DeprecationWarning, match=f"^{kind.__name__}: {old} is {new} now$") as caught:
        assert kind(**given, **{old: value}).get_config() == config
    assert caught[0].filename == __file__
    with warnings.catch_warnings():  # a saved one is only read
        warnings.simplefilter("error")
        config[old] = config.pop(new)
        assert kind.from_config(dict(config)).get_config()[new] == config[old]


if __name__ == "__main__":
    for heading in FOUND:
        for name, text in ROW.findall(sections()[heading]):
            row = f"| `{name}` | {{}} |".format
            PAGE.write_text(PAGE.read_text().replace(row(text), row(line(heading, name))))
