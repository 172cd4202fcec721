"""Exports a run's best weights: `python -m santm_tf.export --workdir=runs/digits --export_dir=FOLDER`."""

import json
import sys

from training import flags
from training.errors import UsageError
from training.run import exported, load


def main(argv):
    config = flags.parse(argv, saved=True)
    if not config.session.export_dir:
        raise UsageError("--export_dir: give a folder for the SavedModel")
    trained = load(config)
    print(json.dumps(exported(config, trained.model)))


if __name__ == "__main__":
    flags.program(main, sys.argv)
