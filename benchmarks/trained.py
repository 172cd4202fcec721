"""Runs of train.py as rows of a table, and as models."""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys

from benchmarks import table
from santm_tf.training import flags
from santm_tf.training.errors import UsageError

# Runs that differ in seed or in where a mask is open are the same programs: each is compiled once.
COMPILED = os.path.abspath(os.path.join("runs", "compiled"))


def options(benchmark, choices, data=None):
    """The command line of a benchmark that trains: `--only`, `--seeds`, and `--data_dir` where it has data.

    Args:
      benchmark: its name, of `benchmarks.NAME`.
      choices: what `--only` picks from; all by default.
      data: `(default, help)` of `--data_dir`.

    Returns:
      The options; `only` is a list.
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}")
    if data:
        parser.add_argument("--data_dir", default=data[0], help=data[1])
    parser.add_argument("--only", default=";".join(choices),
                        help=f"of {', '.join(choices)}, separated by semicolons")
    parser.add_argument("--seeds", type=int, default=3)
    chosen = parser.parse_args()
    chosen.only = [name for name in chosen.only.split(";") if name]
    for name in chosen.only:
        if name not in choices:
            parser.error(f"--only: {name} is none of {', '.join(choices)}")
    return chosen


def result(config, workdir, *given):
    """The last line of the run that a flag file, or None, and flags describe.

    A run that is done with the same flags is taken as it is, one that was stopped goes on.
    """
    command = [sys.executable, "train.py", *[f"--flagfile={config}"] * bool(config), *given,
               f"--workdir={workdir}", "--resume"]
    if done := _done(workdir, command[1:]):
        return done
    os.makedirs(workdir, exist_ok=True)
    os.makedirs(COMPILED, exist_ok=True)
    with open(os.path.join(workdir, "stderr"), "w") as log:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True,
                             env={"TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={COMPILED}",
                                  **os.environ})
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} failed: see {workdir}/stderr")
    return json.loads(ran.stdout.strip().split("\n")[-1])


def folder(benchmark, case, seed):
    """The work directory of a case's run.

    >>> folder("find_mask", "uniform, 20", 0)
    'runs/find_mask/uniform-20-0'
    """
    return f"runs/{benchmark}/{case.replace(', ', '-').replace(' ', '_')}-{seed}"


def evaluated(workdir, *given):
    """The last line of `evaluate.py` for a run that is done, with flags of how it is tested."""
    command = [sys.executable, "evaluate.py", f"--workdir={workdir}", *given]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout.strip().split("\n")[-1])


def _done(workdir, argv):
    """The result of a run that was made with these flags and is done, else None."""
    try:
        made, result = flags.read(os.path.join(workdir, flags.FILE)).texts(), metrics(workdir).get("result")
    except (FileNotFoundError, UsageError):
        return None
    asked = {option.name: text for option, text in flags.parse(argv).given().items()}
    same = all(made.get(name) == text for name, text in asked.items() if name != "data_dir")
    return result if same else None


def fill(benchmark, options, cases, row, title, first, columns):
    """Makes a table row by row, and writes it after each; rows that `--only` leaves out stay as they were.

    Args:
      benchmark: its name, of `benchmarks.NAME`. options: of `options`.
      cases: names of all rows, in order. row: from a name and how many seeds to a row.
      title, first, columns: see `table.write`.
    """
    rows = table.read(benchmark)
    for name in options.only:
        rows[name] = row(name, options.seeds)
        table.write(benchmark, title, first, {case: rows[case] for case in cases if case in rows}, columns,
                    table.rounded)


def flops(*given):
    """Millions that a sequence's forward pass takes by train.py's flags, logits of all steps among them."""
    command = [sys.executable, "train.py", *given, "--dry_run"]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(re.search(r"^FLOPs .*: ([\d,]+)$", ran.stdout, re.MULTILINE)[1].replace(",", "")) / 1e6


def metrics(workdir):
    """What a run has written so far: its `epochs`, and its `result` when it is done."""
    with open(os.path.join(workdir, "metrics.json")) as file:
        return json.load(file)


def curve(workdir, figure):
    """A figure after each epoch of a run."""
    return [round(epoch[figure], 4) for epoch in metrics(workdir)["epochs"]]


def load(workdir, *given):
    """The task and the model, with its best weights, of a run that is done."""
    from santm_tf.training.run import load_folder

    return load_folder(workdir, *given)[2:]


def spread(values):
    """Mean and standard deviation over seeds, as text.

    >>> spread([0.5, 0.6, 0.7])
    '0.6 ± 0.1'
    """
    mean = statistics.mean(values)
    return f"{mean:.3g} ± {statistics.stdev(values):.2g}" if len(values) > 1 else f"{mean:.3g}"
