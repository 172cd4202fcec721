"""The first train step of a run in this checkout against another one's: where the time until its end goes.

`python -m benchmarks.first_step --before=FOLDER`, FOLDER being a checkout of an earlier commit, which runs
under Keras 2. Each case is a fresh process, by turns, so that a slow minute strikes all. Ratios are to the
other checkout's within a round; below 1 this one is faster.

Imports are the time until TensorFlow and this project are there; building is the data, the model and the
folder of the run. Of the step, what is not XLA is tracing, and the step itself.
"""

import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile

from benchmarks import table

HERE = pathlib.Path(__file__).parent
LOGGED = {"TF_CPP_MIN_LOG_LEVEL": "0",
          "TF_CPP_VMODULE": "device_compilation_profiler=1,device_executable_persistor=1"}
KERAS_2 = {"TF_USE_LEGACY_KERAS": "1"}
BEFORE, FILLING, CACHED = "before", "this one, into an empty cache", "this one, from the cache"
CASES = {  # flags and environment
    BEFORE: ([], KERAS_2), "this one, no cache": (["--nocompile_cache"], {}),
    FILLING: ([], {}), CACHED: ([], {}),
    "this one under Keras 2, no cache": (["--nocompile_cache"], KERAS_2),
}
PARTS = "imports", "building", "step", "xla", "programs", "loaded", "peak_mib"
COLUMNS = {"ratio": "ratio, all", "step_ratio": "ratio, step", "seconds": "seconds, all",
           **{part: part for part in PARTS}}


def ran(folder, flags, environment, cache):
    """What one process measures, and what XLA did in it."""
    with tempfile.TemporaryDirectory() as place:
        source = (HERE / "first_step_run.py").read_text()
        inside = "from santm_tf.training" in pathlib.Path(folder, "training", "fit.py").read_text()
        command = [sys.executable, "-c", source, "santm_tf." * inside + "training", *flags,
                   f"--workdir={place}/run"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env={
            **os.environ, "TF_XLA_FLAGS": "", "PYTHONPATH": str(folder), "XDG_CACHE_HOME": cache, **LOGGED,
            **environment})
    if done.returncode:
        raise RuntimeError(f"{folder}: {done.stderr[-2000:]}")
    times = re.findall(r"compile time: (\d+) us", done.stderr)
    return {**json.loads(done.stdout.strip().split("\n")[-1]), "xla": sum(map(int, times)) / 1e6,
            "programs": len(times), "loaded": done.stderr.count("Loading cached entry for")}


def compared(cases, before, flags, rounds):
    """`{case: row}`: medians over the rounds."""
    runs = {case: [] for case in cases}
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as cache:
            for case in cases:
                own, environment = CASES[case]
                folder = before if case == BEFORE else HERE.parent
                runs[case].append(ran(folder, [*flags, *own], environment, cache))
    rows = {}
    for case, found in runs.items():
        rows[case] = {part: statistics.median(run[part] for run in found) for part in ("seconds", *PARTS)}
        if BEFORE in runs:
            for name, part in ("ratio", "seconds"), ("step_ratio", "step"):
                ratios = [run[part] / old[part] for run, old in zip(found, runs[BEFORE], strict=True)]
                rows[case] |= {name: statistics.median(ratios), f"{name}s": ratios}
    return rows


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.first_step")
    parser.add_argument("--before", help="folder of the other checkout; without it, this one alone")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a case")
    parser.add_argument("--only", default=";".join(CASES),
                        help=f"of {'; '.join(CASES)}; separated by semicolons")
    parser.add_argument("--flagfile", default=str(HERE.parent / "configs" / "digits.cfg"))
    chosen = parser.parse_args()
    cases = [case for case in chosen.only.split(";") if case != BEFORE or chosen.before]
    if CACHED in cases and FILLING not in cases:
        parser.error(f"--only: {CACHED!r} needs {FILLING!r}")
    rows = compared(cases, chosen.before, [f"--flagfile={chosen.flagfile}"], chosen.rounds)
    table.write("first_step", "Until a run's first train step is done: medians over fresh processes, "
                f"ratios to the other checkout. {pathlib.Path(chosen.flagfile).name}.", "case", rows,
                COLUMNS, "{:.3g}".format)


if __name__ == "__main__":
    main()
