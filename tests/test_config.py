"""The configuration: read from signatures, frozen, made from flags before TensorFlow is imported."""

import dataclasses
import importlib
import re
import subprocess
import sys
import typing

import pytest

from santm_tf import baselines, tasks
from santm_tf.access import FIXED, SURROGATES
from santm_tf.projection import L0Projection
from santm_tf.tasks.options import Option, read
from santm_tf.training import config, flags, models
from santm_tf.training.errors import UsageError

FUNCTIONS = {**{name: f"{module}:make" for name, module in baselines.MODELS.items()}, **tasks.TASKS}
CLASSES = "Access", "Around", "Optimiser", "Run", "Session"


def parse(*argv):
    return flags.parse(["program", "--workdir=unused", *argv])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_read_from_a_source_is_the_signature(name):
    module, function = FUNCTIONS[name].split(":")
    parameters = baselines.parameters(getattr(importlib.import_module(module), function)).values()
    expected = {p.name: p for p in parameters
                if p.kind is p.POSITIONAL_OR_KEYWORD and p.default is not p.empty}
    found = read(FUNCTIONS[name])
    assert list(found) == list(expected)
    for option, parameter in zip(found.values(), expected.values(), strict=True):
        assert option.default == parameter.default and type(option.default) is type(parameter.default)
        agrees(option, parameter.annotation)


@pytest.mark.parametrize("name", CLASSES)
def test_what_is_read_of_a_class_are_its_fields(name):
    found, made = read(f"santm_tf.training.config:{name}"), getattr(config, name)
    hints = typing.get_type_hints(made, include_extras=True)
    assert [(o.name, o.default) for o in found.values()] == [(f.name, f.default)
                                                             for f in dataclasses.fields(made)]
    for option in found.values():
        assert option.help
        agrees(option, hints[option.name])


def agrees(option, annotation):
    """Kind, choices and bounds are those that the annotation shows, and the default is among them."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    kinds = re.findall(r"\b(int|float|bool|str)\b", text)
    assert kinds == ([option.kind.__name__] if option.kind else [])
    literals = re.findall(r"Literal\[(.*?)\]", text)
    assert option.choices == tuple(re.findall(r"\w+", "".join(literals)))
    intervals = re.findall(r"'([\[(].*?[)\]])'", text)
    assert option.bounds == (intervals[0] if intervals else "[1, inf)" * (kinds == ["int"]))
    assert not option.need(option.default)


@pytest.mark.parametrize("group", config.GROUPS)
def test_every_flag_has_a_text(group):
    for name, owners in config.known(group).items():
        assert any(option.help for option in owners.values()), name
        assert len({option.kind is bool for option in owners.values()}) == 1  # a switch is one for all


def test_a_name_is_of_one_group():
    names = [name for group in config.GROUPS for name in config.known(group)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("option, text, value", [
    (Option("units", 1, kind=int, bounds="[1, inf)"), "7", 7),
    (Option("rate", 1.0, kind=float, bounds="(0, 1]", choices=("auto",)), "auto", "auto"),
    (Option("rate", 1.0, kind=float, bounds="(0, 1]", choices=("auto",)), "1", 1.0),
    (Option("clip", 1.0, kind=float, bounds="(0, inf]"), "inf", float("inf")),
    (Option("mask", "a", choices=("a", "b")), "b", "b"),
    (Option("augment", False, kind=bool), True, True),
])
def test_a_text_is_read(option, text, value):
    assert option.parse(text) == value and type(option.parse(text)) is type(value)


@pytest.mark.parametrize("option, text, needed", [
    (Option("units", 1, kind=int, bounds="[1, inf)"), "0", "a whole number of at least 1"),
    (Option("units", 1, kind=int, bounds="[1, inf)"), "1.5", "a whole number of at least 1"),
    (Option("rate", 1.0, kind=float, bounds="(0, 1]", choices=("auto",)), "0", "a number in (0, 1] or auto"),
    (Option("rate", 1.0, kind=float, bounds="(0, 1]"), "nan", "a number in (0, 1]"),
    (Option("rate", 1.0, kind=float, bounds="(0, inf)"), "0", "a number above 0"),
    (Option("mask", "a", choices=("a", "b", "c")), "d", "a, b or c"),
])
def test_a_text_that_is_wrong_is_named(option, text, needed):
    with pytest.raises(ValueError) as error:
        option.parse(text)
    assert str(error.value) == f"--{option.name}={text}: must be {needed}"


def test_choices_are_those_of_the_library():
    access, layer = read("santm_tf.training.config:Access"), read("santm_tf.baselines.santm:make")
    assert access["mask_schedule"].choices == tuple(L0Projection.POWERS)
    assert set(layer["mask"].choices) == {"learned", "ablation", "hard_concrete", "adaptive", *FIXED}
    assert layer["mask_surrogate"].choices == tuple(SURROGATES)
    assert read("santm_tf.training.config:Optimiser")["optimizer"].choices == tuple(models.OPTIMIZERS)


def test_nothing_of_it_can_be_changed():
    made = parse("--units=4")
    for part in (made, made.run, made.access, made.around, made.optimiser, made.session):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, next(iter(vars(part))), None)
    for options in (made.layer, made.data):
        with pytest.raises(TypeError):
            options["units"] = 5
    other = dataclasses.replace(made, layer={**made.layer, "units": 5})
    assert (made.layer["units"], other.layer["units"]) == (4, 5) and made == parse("--units=4") != other


@pytest.mark.parametrize("argv", [
    ["--units=4", "--access_rate=auto", "--retention=0.5", "--noallocate", "--memory=sparse", "--top_k=3"],
    ["--model=mamba", "--layers=3", "--task=copy", "--curriculum", "--curriculum_epochs=3",
     "--clip_norm=inf"],
    ["--task=words", "--data_dir=some where", "--embedding=3", "--nojit_compile", "--memory_init=constant"],
])
def test_what_a_flag_file_holds_is_the_configuration(argv, tmp_path):
    made = parse(*argv)
    path = tmp_path / "flags.cfg"
    path.write_text("\n".join(filter(None, made.texts().values())))
    assert dataclasses.replace(flags.read(path), session=made.session) == made
    assert not {"--workdir", "--resume"} & {line.split("=")[0] for line in path.read_text().split("\n")}


def test_a_folder_of_data_is_an_absolute_path_and_a_task_goes_by_its_earlier_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert parse("--task=text", "--data_dir=here/x.csv").data["data_dir"] == str(tmp_path / "here/x.csv")
    assert f"--data_dir={tmp_path}/home/x" in parse("--task=text", "--data_dir=~/x").texts().values()
    assert parse("--task=speaker", "--data_dir=x").task == "sounds"


def test_a_flag_file_of_an_earlier_version_is_read(tmp_path):
    """It has every flag, those without use, too, and the old name of memory_horizon."""
    path = tmp_path / "flags.cfg"
    path.write_text("--model=lstm\n--units=8\n--memory_slots=16\n--max_memory=5\n--access_rate=0.5\n"
                    "--retention=0.9\n--noallocate\n--task=adding\n--bits=3\n--data_dir=nowhere\n--epochs=2\n"
                    "--deterministic\n--nojit_compile\n")
    found = flags.read(path)
    assert found.layer["memory_horizon"] == 5 and found.layer["units"] == 8 and found.access is None
    assert found.run.epochs == 2 and not found.run.jit_compile and "data_dir" not in found.data


@pytest.mark.parametrize("argv", [["--flagfile=digits-lstm.cfg"], ["--flagfile", "digits-lstm.cfg"]])
def test_a_flag_file_that_is_not_here_is_one_of_those_installed(argv, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse(*argv).model == "lstm"
    (tmp_path / "digits-lstm.cfg").write_text("--model=mamba")
    assert parse(*argv).model == "mamba"


@pytest.mark.parametrize("first", ["--model=lstm", "# the first run", ""])
def test_the_mark_of_utf_8_before_a_flag_file_is_no_part_of_it(first, tmp_path):
    (tmp_path / "marked.cfg").write_text(f"{first}\n--model=lstm\n--units=7\n", encoding="utf-8-sig")
    found = parse(f"--flagfile={tmp_path}/marked.cfg", "--epochs=2")
    assert (found.model, found.layer["units"], found.run.epochs) == ("lstm", 7, 2)


def test_an_earlier_name_of_a_flag_is_said_where_it_is_given(tmp_path, capsys):
    assert parse("--max_memory=5").layer["memory_horizon"] == 5
    assert capsys.readouterr().err == "warning: --max_memory is --memory_horizon now\n"
    (tmp_path / "flags.cfg").write_text("--max_memory=5")
    assert parse(f"--flagfile={tmp_path}/flags.cfg").layer["memory_horizon"] == 5
    assert capsys.readouterr().err == ""


def test_what_is_given_overrides_the_runs_own(tmp_path):
    (tmp_path / "flags.cfg").write_text("--task=copy\n--units=8\n--max_length=5")
    found = flags.parse(["program", f"--workdir={tmp_path}", "--max_length=7"], saved=True)
    assert (found.task, found.layer["units"], found.data["max_length"]) == ("copy", 8, 7)


@pytest.mark.parametrize("command, code, said", [
    ("train.py --help", 0, "usage: train.py"), ("evaluate.py --helpfull", 0, "\noptimiser:\n"),
    ("train.py --no_such=1", 2, "no_such"), ("train.py --units=many", 2, "--units=many"),
    ("train.py --rank=0 --model=drr_lstm", 2, "--rank=0"), ("train.py --task=none", 2, "--task=none"),
    ("train.py --model=none", 2, "--model=none"), ("train.py --model=lstm --top_k=3", 2, "--top_k=3"),
    ("evaluate.py --workdir=none --data_dir=x", 2, "--data_dir=x"), ("evaluate.py", 2, "--workdir"),
    ("train.py --flagfile=no.cfg", 2, "error: --flagfile=no.cfg: no such file"),
    ("santm_tf/inspect.py --help", 0, "usage: python -m santm_tf.inspect"),
    ("santm_tf/inspect.py --workdir=none --input=x.npy --no_such=1", 2, "no_such"),
    ("santm_tf/export/__main__.py --help", 0, "usage: python -m santm_tf.export"),
    ("santm_tf/export/__main__.py --workdir=none", 2, "--export_dir"),
])
def test_help_and_a_mistake_need_no_tensorflow(command, code, said):
    program = (f"import runpy, sys; sys.argv = {command.split()}\n"
               "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
               "finally: print('tensorflow' in sys.modules)")
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert ran.returncode == code and said in ran.stdout + ran.stderr
    assert ran.stdout.strip().endswith("False")


def test_an_error_is_one_line():
    with pytest.raises(UsageError, match="^--curriculum_epochs=3: needs --curriculum; add it"):
        parse("--task=copy", "--curriculum_epochs=3")
