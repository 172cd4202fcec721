"""A journal that processes share: what is in it stays whole, whatever is killed."""

import os
import signal
import subprocess
import sys

import optuna
import pytest

from santm_tf.training import journal
from santm_tf.training.errors import UsageError

DIES = """
import os, sys
from santm_tf.training.journal import FileLock
FileLock(sys.argv[1]).acquire()
with open(sys.argv[1], "ab") as file:
    file.write(b'{"op_code":4,"worker_id":"tor')
    file.flush()
os.kill(os.getpid(), 9)
"""


def study_of(path):
    return optuna.create_study(storage=journal.storage(str(path)), study_name="a", load_if_exists=True)


def test_of_a_process_that_was_killed_while_it_wrote_neither_lock_nor_line_stays(tmp_path):
    before, path = study_of(tmp_path / "a.study"), tmp_path / "a.study"
    before.enqueue_trial({"x": 1})
    whole = path.read_bytes()
    ended = subprocess.run([sys.executable, "-c", DIES, str(path)], check=False)
    assert ended.returncode == -signal.SIGKILL and path.read_bytes() != whole
    assert len(before.trials) == len(study_of(path).trials) == 1  # while the torn line is there
    after = study_of(path)
    after.enqueue_trial({"x": 2})
    before.enqueue_trial({"x": 3})
    assert path.read_bytes().startswith(whole) and b"tor" not in path.read_bytes()
    given = [trial.system_attrs["fixed_params"] for trial in study_of(path).trials]
    assert given == [trial.system_attrs["fixed_params"] for trial in before.trials] == [
        {"x": 1}, {"x": 2}, {"x": 3}]
    assert os.listdir(tmp_path) == ["a.study"]


@pytest.mark.parametrize("content", [b"mine", b"mine\n", b'{"op": 1}\n', b"\xff\xfe\0"])
def test_another_file_is_refused_and_stays(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UsageError, match=r"--study=.*a: holds something else"):
        journal.storage(str(tmp_path / "a"))
    assert (tmp_path / "a").read_bytes() == content


def test_a_damaged_one_is_refused(tmp_path):
    study_of(tmp_path / "a")
    with open(tmp_path / "a", "ab") as file:
        file.write(b'{"op_code":\n{"op_code":3}\n')
    with pytest.raises(UsageError, match=r"--study=.*a: damaged"):
        journal.storage(str(tmp_path / "a"))
