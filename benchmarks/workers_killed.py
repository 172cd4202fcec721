"""Whether workers that are killed and started again train as those that nothing killed, bit for bit.

`python -m benchmarks.workers_killed --kills=10` kills one of two workers at ten random moments, starts both
again each time, and compares the weights in the end. It says how long the other one took to end.
"""

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time

from benchmarks.killed import end_of
from santm_tf.training import launch

FLAGS = ["--task=adding", "--length=24", "--steps_per_epoch=40", "--epochs=20", "--units=8", "--model=lstm",
         "--batch_size=32", "--nojit_compile", "--checkpoint_minutes=0.001", "--join_seconds=20", "--resume",
         "--strategy=multiworker"]
WITHIN = 60.0  # seconds in which the other worker has to end


def command(folder, *more):
    """What each worker runs."""
    return [sys.executable, "train.py", *FLAGS, f"--workdir={folder}", *more]


def same(one, other):
    """Whether two runs end with the same numbers, bit for bit."""
    return end_of(one) == end_of(other)


def killed(command, victim, after):
    """Starts two workers and kills one of them after so many seconds.

    Returns:
      The seconds that the other one took to end; None where both were through before.
    """
    with contextlib.ExitStack() as stack:
        workers = launch.start(command, 2)
        for worker in workers:
            stack.callback(worker.wait)
            stack.callback(worker.kill)
        try:
            if workers[victim].wait(after) == 0:
                return None
        except subprocess.TimeoutExpired:
            workers[victim].kill()
        began = time.monotonic()
        workers[1 - victim].wait(WITHIN)
        return time.monotonic() - began


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers_killed")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    chosen, drawn = parser.parse_args(), random.Random()
    drawn.seed(chosen.seed)
    with tempfile.TemporaryDirectory() as top:
        whole, stopped = (os.path.join(top, name) for name in ("whole", "stopped"))
        began = time.monotonic()
        if code := launch.run(command(whole), 2):
            raise SystemExit(code)
        took, ends = time.monotonic() - began, []
        while len(ends) < chosen.kills:
            ended = killed(command(stopped), drawn.randrange(2), drawn.uniform(1, 0.6 * took))
            if ended is None:
                break  # a run that goes on has less to do
            ends.append(ended)
            print(f"kill {len(ends)}: the other worker ended {ended:.1f} s later", flush=True)
        if code := launch.run(command(stopped), 2):
            raise SystemExit(code)
        print(f"{len(ends)} kills; the same weights: {same(whole, stopped)}; the other worker ended after "
              f"{statistics.median(ends):.1f} s (median), {max(ends):.1f} s at most")


if __name__ == "__main__":
    main()
