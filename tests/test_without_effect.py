"""What is given and has no effect is refused in one line; flag files and paths are read as they are meant."""

import pytest

from santm_tf.access import FIXED
from santm_tf.training import commands, config, flags
from santm_tf.training.errors import UsageError
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task
from tests.programs import refused


def parse(*argv):
    return flags.parse(["program", "--workdir=unused", *argv])


@pytest.mark.parametrize("flag, beside, needed", [
    ("--tflite", [], "--export_dir"),
    ("--export_xla", [], "--export_dir"),
    ("--join_seconds=5.0", [], "--strategy=mirrored or --strategy=multiworker"),
    ("--locality=2", ["--recall=read"], "--recall=attention"),
    ("--attention_heads=2", ["--recall=read"], "--recall=attention"),
    ("--cheb_order=2", ["--recall=read"], "--recall=attention"),
    ("--boundary_penalty=2.0", ["--boundaries=fixed"], "--boundaries=learned or --boundaries=change"),
    ("--memory_init=learned", ["--memory=key_value"], "--memory=dense or --memory=sparse"),
    ("--mask_schedule=cubic", [], config.FALL),
    ("--mask_warmup=2", ["--mask=uniform", "--access_rate=0.5"], config.FALL),
])
def test_a_flag_without_effect_says_what_it_needs(flag, beside, needed, tmp_path):
    with pytest.raises(UsageError) as error:
        parse(flag, *beside)
    assert str(error.value) == f"{flag}: needs {needed}; add it, or leave this out"
    (tmp_path / "flags.cfg").write_text("\n".join([flag, *beside]))  # of a run, of an earlier version
    name = flag[2:].split("=")[0]
    flags.parse(["program", f"--workdir={tmp_path}"], saved=True)
    assert flags.read(tmp_path / "flags.cfg").texts().get(name) != flag


def test_they_are_taken_where_they_have_an_effect():
    assert parse("--model=transformer", "--attention_heads=2").layer["attention_heads"] == 2
    assert parse("--access_rate=auto", "--mask_schedule=cubic").access.mask_schedule == "cubic"
    assert parse("--mask=adaptive", "--access_rate=0.5", "--mask_warmup=2").access.mask_warmup == 2
    assert config.FIXED == FIXED


@pytest.mark.parametrize("program, argv, flag", [
    (commands.evaluate, ["--resume"], "--resume"), (commands.export, ["--plots"], "--plots"),
    (commands.inspect, ["--input=x", "--export_dir=y"], "--export_dir"),
    (commands.shard, ["--out=x", "--plots"], "--plots"),
], ids=lambda value: getattr(value, "__name__", None))
def test_a_program_refuses_what_is_another_ones(program, argv, flag, tmp_path, capsys):
    where = [] if program is commands.shard else [f"--workdir={tmp_path}/run"]
    assert f"{flag}: santm-{program.__name__} has no use for it" in refused(capsys, program, *where, *argv)


def test_an_automatic_rate_above_the_initial_one_is_refused():
    config = parse("--task=adding", "--length=4", "--access_rate=auto", "--initial_access_rate=0.01")
    with pytest.raises(UsageError, match="^--initial_access_rate=0.01: is below 0.25, the rate of --access_"):
        resolve(config, load_task(config))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
@pytest.mark.parametrize("nested", [False, True])
def test_a_flag_file_that_is_not_in_utf_8_is_named(encoding, nested, tmp_path):
    path = tmp_path / "odd.cfg"
    path.write_bytes("--model=lstm\n# größer\n".encode(encoding))
    if nested:
        (tmp_path / "outer.cfg").write_text(f"--flagfile={path}\n")
    given = tmp_path / "outer.cfg" if nested else path
    with pytest.raises(UsageError, match=rf"^--flagfile={path}: not in UTF-8 \(byte \d+\); save it as"):
        parse(f"--flagfile={given}")


def test_a_flag_file_that_is_a_folder_is_named(tmp_path):
    with pytest.raises(UsageError, match=f"^--flagfile={tmp_path}: Is a directory"):
        parse(f"--flagfile={tmp_path}")


def test_a_flag_file_that_names_itself_is_refused(tmp_path):
    for name, other in ("a", "b"), ("b", "a"):
        (tmp_path / name).write_text(f"--flagfile={tmp_path / other}")
    with pytest.raises(UsageError, match=f"^--flagfile={tmp_path}/a: names itself"):
        parse(f"--flagfile={tmp_path}/a")


def test_a_flag_file_in_a_marked_one_is_read(tmp_path):
    (tmp_path / "inner.cfg").write_text("--units=7\n", encoding="utf-8-sig")
    text = f"--flagfile={tmp_path}/inner.cfg\n--epochs=2\n"
    (tmp_path / "outer.cfg").write_text(text, encoding="utf-8-sig")
    found = parse(f"--flagfile={tmp_path}/outer.cfg")
    assert found.layer["units"] == 7 and found.run.epochs == 2


def test_a_path_may_begin_at_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "a.cfg").write_text("--units=7\n")
    found = flags.parse(["program", "--workdir=~/run", "--export_dir=~/out", "--flagfile=~/a.cfg"])
    assert (found.session.workdir, found.session.export_dir) == (f"{tmp_path}/run", f"{tmp_path}/out")
    assert found.layer["units"] == 7
    assert flags.parse(["program", "--workdir=~/a,~/b"]).session.workdir == f"{tmp_path}/a,{tmp_path}/b"
