"""The wheel under several Pythons, one after another: `python -m tests.pythons python3.10 python3.13 ...`.

Under each: an environment of its own, the wheel with what it depends on from the registry, an import, and one
short training by XLA under Keras 3 with nothing but the core. Then the extras, one more training, and two
under Keras 2. The versions and what the trainings score are printed; docs/install.md has them. An environment
takes some 2 GB, and is deleted.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
SANTM = ["--memory_slots=8", "--slot_width=4", "--attention_heads=2", "--locality=2"]
ADDING = [*SANTM, "--task=adding", "--length=10", "--max_steps=3"]
DIGITS = ["--flagfile=digits.cfg", *SANTM, "--nojit_compile"]
LNLSTM = ["--flagfile=digits-lnlstm.cfg", "--nojit_compile"]
KERAS_2 = {"TF_USE_LEGACY_KERAS": "1"}
VERSIONS = """
import importlib.metadata, platform, santm_tf
from santm_tf.keras import keras
santm_tf.SANTM
found = {"Python": platform.python_version(), "Keras in use": keras.__version__}
for name in "tensorflow", "keras", "tf-keras", "tensorflow-addons", "numpy":
    try:
        found[name] = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        pass
print(", ".join(f"{name} {version}" for name, version in found.items()))
"""


def tried(python, folder):
    """Prints what comes of one Python."""
    def run(program, *argv, **environment):
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        ran = subprocess.run([folder / "venv" / "bin" / program, *argv], cwd=folder, text=True, check=False,
                             capture_output=True, env=clean | {"TF_CPP_MIN_LOG_LEVEL": "3"} | environment)
        if ran.returncode:
            sys.exit(f"{python}: {program} {' '.join(argv)}\n{ran.stderr}")
        return ran.stdout.strip().split("\n")[-1]

    def trained(*argv, **environment):
        figures = json.loads(run("santm-train", *argv, "--units=4", "--epochs=1", "--batch_size=256",
                                 **environment))
        print(f"  {figures['model']} on {figures['task']}: {figures['parameters']} weights, test loss "
              f"{figures['test_loss']:.3f}", flush=True)

    subprocess.run([python, "-m", "venv", folder / "venv"], check=True)
    run("pip", "wheel", "--no-deps", "--wheel-dir=wheel", str(ROOT))
    wheel, = folder.glob("wheel/*.whl")
    run("pip", "install", str(wheel))
    print(run("python", "-c", VERSIONS), flush=True)
    trained(*ADDING, "--workdir=core")
    run("pip", "install", f"{wheel}[addons,tasks,plots]")
    trained(*DIGITS, "--workdir=digits")
    print(run("python", "-c", VERSIONS, **KERAS_2), flush=True)
    trained(*DIGITS, "--workdir=digits_2", **KERAS_2)
    trained(*LNLSTM, "--workdir=lnlstm_2", **KERAS_2)


if __name__ == "__main__":
    for each in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as place:
            tried(each, pathlib.Path(place))
