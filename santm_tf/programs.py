"""Commands of this library that work on trained runs, whose programs are the application's."""

import importlib.util
import runpy
import sys


def run(module):
    """Runs a program of the application, of which this library knows the name alone."""
    if importlib.util.find_spec(module.split(".")[0]) is None:
        print(f"error: {module} is not installed; run this where train.py is", file=sys.stderr)
        sys.exit(2)
    runpy.run_module(module, run_name="__main__", alter_sys=True)
