"""Two processes train one model: as one process does, and whatever ends them."""

import json
import signal
import time

import numpy as np
import pytest

from benchmarks import workers_equal, workers_killed
from santm_tf.training import launch

# Each row has its own draws; steps that do not count, and no row of a batch for a worker; states of each row.
CASES = ["santm ablation", "lstm padded copy", "lstm chars"]
SHORT = ["--max_steps=12", "--batch_size=8", "--nojit_compile"]
FLAGS = ["--steps_per_epoch=10", "--epochs=10"]
MOST = 90  # seconds that anything here may take


@pytest.fixture(autouse=True)
def threads(monkeypatch):
    """The two have a core each, and programs that are made at once."""
    monkeypatch.setenv("TF_CPP_MIN_LOG_LEVEL", "3")
    monkeypatch.setenv("TF_NUM_INTRAOP_THREADS", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("workers")


def test_two_workers_train_as_one_process_does(folder):
    two = workers_equal.losses(folder, 2, CASES, *SHORT)
    (folder / "1").mkdir()
    workers_equal.train(folder / "1", CASES, *SHORT)
    for case in CASES:
        one = np.load(folder / "1" / f"{case}.npy")
        assert len(one) == 12 and np.ptp(one) > 1e-3
        np.testing.assert_allclose(two[case], one, rtol=0, atol=1e-5)
        figures = [trained(folder / count / case) for count in "12"]
        for a, b in zip(*figures, strict=True):
            assert a == pytest.approx(b, abs=1e-4)


def trained(folder):
    """The figures of each epoch and of the test, without times."""
    metrics = json.loads((folder / "metrics.json").read_text())
    return [{name: value for name, value in row.items() if name not in ("seconds", "task", "model")}
            for row in (*metrics["epochs"], metrics["result"])]


def started(run, *more):
    return launch.start(workers_killed.command(run, *FLAGS, *more), 2)


def finished(workers):
    """The exit codes of workers that must end; none is left."""
    try:
        return [worker.wait(MOST) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def steps(run):
    """The steps of the checkpoints that are there."""
    return sorted(int(path.stem.removeprefix("ckpt-")) for path in (run / "checkpoints").glob("ckpt-*.index"))


def wait_for(run, step, workers):
    """Until a run has a checkpoint of a step, or a later one."""
    until = time.monotonic() + MOST
    while (steps(run) or [0])[-1] < step:
        assert time.monotonic() < until and all(worker.poll() is None for worker in workers)
        time.sleep(0.02)


def test_what_ends_two_workers_loses_nothing(folder):
    """SIGTERM to both, then SIGKILL to one: the run goes on, and ends as one that nothing ended."""
    whole, stopped = folder / "whole", folder / "stopped"
    assert finished(started(whole)) == [0, 0]
    workers = started(stopped)
    wait_for(stopped, 5, workers)
    for worker in workers:
        worker.terminate()
    assert finished(workers) == [128 + signal.SIGTERM] * 2
    assert 5 <= steps(stopped)[-1] < 100
    workers = started(stopped)
    wait_for(stopped, steps(stopped)[-1] + 10, workers)
    workers[1].kill()
    assert finished(workers) == [1, -signal.SIGKILL]
    assert steps(stopped)[-1] < 100
    assert finished(started(stopped)) == [0, 0]
    assert steps(stopped)[-1] == 100 and workers_killed.same(whole, stopped)
