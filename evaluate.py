"""Scores the best checkpoint of a run on its task's test split: `evaluate.py --workdir=runs/first`."""

import json
import os
import sys

from training import flags
from training.errors import UsageError

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
TRAINING = "dry_run", "resume", "profile_steps"  # flags that are for train.py alone


def main(argv):
    config = flags.parse(argv, saved=True)
    session = config.session
    for name in TRAINING:
        if getattr(session, name):
            raise UsageError(f"--{name}: is for train.py alone; leave it out")
    paths = [session.workdir] if os.path.isdir(session.workdir) else session.workdir.split(",")
    if len(paths) == 1:
        from training import scores  # here: TensorFlow takes seconds, and a wrong flag needs none of it

        scores.evaluate(config)
        return
    if not session.plots:
        raise UsageError(f"--workdir={session.workdir}: several runs are compared with --plots; add it, or "
                         "name one folder")
    from training import comparison

    where, figures = comparison.write(paths)
    print(f"see {where}", file=sys.stderr)
    print(json.dumps(figures))


if __name__ == "__main__":
    flags.program(main, sys.argv)
