"""`santm-launch`: several processes on this machine, of which none is left behind."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from santm_tf.training import launch
from tests.programs import refused

SAY = "import os, sys, time; print('I am', os.environ['TF_CONFIG'][-3], flush=True); "


def is_there(process):
    """Whether a process runs."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_for(what):
    for _ in range(200):
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("it took too long")


def test_each_worker_has_its_place(capfd):
    code = "import json, os; c = json.loads(os.environ['TF_CONFIG']); print(json.dumps(c))"
    assert launch.run([sys.executable, "-c", code], 3) == 0
    out, err = capfd.readouterr()
    told = [json.loads(out), *(json.loads(line.partition(": ")[2]) for line in err.strip().split("\n"))]
    assert sorted(c["task"]["index"] for c in told) == [0, 1, 2] and told[0]["task"]["index"] == 0
    assert len({json.dumps(c["cluster"]) for c in told}) == 1
    assert len(set(told[0]["cluster"]["worker"])) == 3
    assert {line.partition(": ")[0] for line in err.strip().split("\n")} == {"worker 1", "worker 2"}


def test_one_that_ends_badly_ends_all(capfd, monkeypatch):
    monkeypatch.setattr(launch, "GRACE", 0.3)
    code = SAY + "n = int(os.environ['TF_CONFIG'][-3]); sys.exit(7) if n == 1 else time.sleep(60)"
    began = time.monotonic()
    assert launch.run([sys.executable, "-c", code], 3) == 7
    assert time.monotonic() - began < 30


def test_one_that_is_killed_gives_its_signal():
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    assert launch.run([sys.executable, "-c", code], 2) == 128 + signal.SIGKILL


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left_when_the_launcher_ends(number, tmp_path):
    code = (f"import os, signal, sys, time; open('{tmp_path}/' + str(os.getpid()), 'w').close()\n"
            "signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))\ntime.sleep(60)")
    (tmp_path / "folder").mkdir()
    script = tmp_path / "folder" / "script.py"
    script.write_text(code)
    started = subprocess.Popen([sys.executable, "-c", "from santm_tf.training.launch import main; main()",
                                "--workers=2", "--", str(script)], env={**os.environ})
    try:
        workers = wait_for(lambda: len(found := [*filter(str.isdigit, os.listdir(tmp_path))]) == 2 and found)
        time.sleep(0.3)  # until they hear
        started.send_signal(number)
        assert started.wait(20) == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        wait_for(lambda: not any(map(is_there, workers)))
    finally:
        started.kill()
        started.wait()


@pytest.mark.parametrize("argv, part", [
    (["--workers=0", "--", "train.py"], "--workers=0: must be at least 1"),
    (["--workers=2"], "what is to be started"),
    (["--workers=2", "--", "no_such.py"], "no_such.py: no such file"),
    (["--workers=2", "--", "no-such-program"], "no-such-program: no such program")])
def test_what_cannot_be_started_is_one_line(argv, part, capsys):
    assert part in refused(capsys, lambda argv: launch.main(argv), *argv)
