"""Runs of train.py as rows of a table."""

import json
import os
import subprocess
import sys


def result(config, workdir, *flags):
    """The last line of the run that a flag file describes; a run that is there is taken as it is."""
    command = [sys.executable, "train.py", f"--flagfile={config}", f"--workdir={workdir}", "--resume", *flags]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(done.stdout.strip().split("\n")[-1])


def curve(workdir, figure):
    """A figure after each epoch of a run."""
    with open(os.path.join(workdir, "metrics.json")) as file:
        return [round(epoch[figure], 4) for epoch in json.load(file)["epochs"]]
