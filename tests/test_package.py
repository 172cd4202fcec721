"""The wheel: what is in it, and that its commands work beside a user's own training/ and tasks.py."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest

import santm_tf

ROOT = pathlib.Path(__file__).parent.parent
SHIPPED = ("pyproject.toml", "README.md", "LICENSE", "santm_tf", "baselines", "tasks", "training", "configs",
           "serving", "pretrained")
TINY = ["--units=4", "--memory_slots=8", "--slot_width=4", "--attention_heads=2", "--locality=2",
        "--nojit_compile", "--batch_size=512", "--epochs=1"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Made of a copy: nothing is left in the checkout, nor taken from what an earlier one left there."""
    folder = tmp_path_factory.mktemp("wheel")
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
    pip("wheel", "--no-build-isolation", f"--wheel-dir={folder}", folder)
    made, = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def environment(wheel, tmp_path_factory):
    """A folder of commands: a fresh environment with the wheel, which sees the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    output(sys.executable, "-m", "venv", "--without-pip", folder)
    pip(f"--python={folder / 'bin' / 'python'}", "install", wheel)
    own, = folder.glob("lib/python*/site-packages")
    (own / "others.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return folder / "bin"


def pip(*argv):
    output(sys.executable, "-m", "pip", *argv[:-1], "--quiet", "--no-deps", "--no-index", argv[-1])


def output(*argv, **options):
    """What a command prints. It sees nothing of the checkout."""
    outside = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    ran = subprocess.run(argv, env=outside, capture_output=True, text=True, check=False, **options)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_the_wheel_has_one_name_and_all_that_belongs_to_it(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    about = f"santm_tf-{santm_tf.__version__}.dist-info"
    assert {name.split("/")[0] for name in names} == {"santm_tf", about}
    folders = "baselines", "tasks", "training", "configs", "serving", "pretrained"
    there = {f"santm_tf/{path.relative_to(ROOT)}" for folder in folders
             for path in (ROOT / folder).rglob("*") if path.is_file() and path.suffix != ".pyc"}
    there |= {str(path.relative_to(ROOT)) for path in (ROOT / "santm_tf").rglob("*.py")}
    assert there | {"santm_tf/py.typed"} == {name for name in names if not name.startswith(about)}


def test_the_commands_work_from_any_folder(environment, tmp_path):
    (tmp_path / "training").mkdir()
    for mine in "training/__init__.py", "tasks.py", "baselines.py", "serving.py", "pretrained.py":
        (tmp_path / mine).write_text("raise ImportError('this is mine')")
    np.save(tmp_path / "digit.npy", np.zeros([64, 1]))

    def output_of(command, *argv):
        program, *module = command.split()
        return output(environment / program, *module, *argv, cwd=tmp_path)

    where = output_of("python -c", "import santm_tf.tasks; print(santm_tf.tasks.__file__)")
    assert where.startswith(str(environment.parent))
    loaded = output_of("python -c", "import sys; sys.modules['sklearn'] = None; import santm_tf; "
                       "print(santm_tf.load_pretrained('digits').output_shape)")
    assert loaded == "(None, 10)"
    trained = json.loads(output_of("santm-train", "--flagfile=digits.cfg", "--workdir=run", *TINY))
    scored = json.loads(output_of("santm-evaluate", "--workdir=run"))
    assert scored == trained and trained["task"] == "digits"
    exported = json.loads(output_of("santm-export", "--workdir=run", "--export_dir=export"))
    assert exported["outputs"]["width"] == 10
    assert (tmp_path / "export" / "saved_model.pb").exists()
    assert "64 steps" in output_of("python -m santm_tf.inspect", "--workdir=run", "--input=digit.npy")
    assert "one of shards that is there is replaced" in output_of("santm-shard", "--help")
    assert "access rate" in output_of("santm-capacity", "--steps=9", "--slots=2", "--retention=0.9")
