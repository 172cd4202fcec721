"""Trains a model on a task: `train.py --task=digits --model=santm --workdir=runs/first`."""

import os
import sys

from training import flags

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main(argv):
    config = flags.parse(argv)
    from training import fit  # here: TensorFlow takes seconds, and a wrong flag needs none of it

    fit.train(config)


if __name__ == "__main__":
    flags.program(main, sys.argv)
