"""Whether two workers always come together: `python -m benchmarks.workers_started --starts=50`.

Each start trains two steps. It must end well within a time-out, or it counts as a hang.
"""

import argparse
import subprocess
import sys
import tempfile
import time

from santm_tf.training import launch

FLAGS = ["--task=adding", "--length=8", "--steps_per_epoch=2", "--epochs=1", "--units=4", "--model=lstm",
         "--batch_size=8", "--nojit_compile", "--strategy=multiworker"]
MOST = 120.0  # seconds that a start may take


def started(folder):
    """Starts two workers, and ends what hangs. Returns their exit codes, None for one that hangs."""
    workers = launch.start([sys.executable, "train.py", *FLAGS, f"--workdir={folder}"], 2)
    ends = time.monotonic() + MOST
    try:
        return [_code(worker, ends - time.monotonic()) for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()


def _code(worker, seconds):
    try:
        return worker.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return None


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers_started")
    parser.add_argument("--starts", type=int, default=50)
    chosen, took, ended = parser.parse_args(), [], []
    for _ in range(chosen.starts):
        began = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            ended.append(started(folder))
        took.append(time.monotonic() - began)
    hung, well = sum(None in codes for codes in ended), ended.count([0, 0])
    print(f"{chosen.starts} starts: {well} ended well, {hung} hung; the longest took {max(took):.0f} s")


if __name__ == "__main__":
    main()
