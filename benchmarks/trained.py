"""Runs of train.py as rows of a table, and as models."""

import json
import os
import statistics
import subprocess
import sys

# Runs that differ in seed or in where a mask is open are the same programs: each is compiled once.
COMPILED = "--tf_xla_persistent_cache_directory=" + os.path.abspath(os.path.join("runs", "compiled"))


def result(config, workdir, *flags):
    """The last line of the run that a flag file, or None, and flags describe.

    A run that is done with the same flags is taken as it is, one that was stopped goes on.
    """
    asked = [f"--flagfile={config}"] if config else []
    command = [sys.executable, "train.py", *asked, *flags, f"--workdir={workdir}", "--resume"]
    if config:
        with open(config) as file:
            asked = [line for line in file.read().split("\n") if line.startswith("--")]
    done = _done(workdir, {flag.split("=")[0]: flag for flag in (*asked, *flags)})
    if done:
        return done
    os.makedirs(workdir, exist_ok=True)
    os.makedirs(COMPILED.split("=")[1], exist_ok=True)
    with open(os.path.join(workdir, "stderr"), "w") as log:
        ran = subprocess.run(command, stdout=subprocess.PIPE, stderr=log, text=True,
                             env={"TF_XLA_FLAGS": COMPILED, **os.environ})
    if ran.returncode:
        raise SystemExit(f"{' '.join(command)} failed: see {workdir}/stderr")
    return json.loads(ran.stdout.strip().split("\n")[-1])


def _done(workdir, asked):
    """The result of a run that was made with these flags and is done, else None."""
    try:
        with open(os.path.join(workdir, "flags.cfg")) as file:
            made_with = file.read().split("\n")
        with open(os.path.join(workdir, "metrics.json")) as file:
            metrics = json.load(file)
    except FileNotFoundError:
        return None
    left_to_train = ("--data_dir", "--workdir")
    same = all(flag in made_with for name, flag in asked.items() if name not in left_to_train)
    return metrics.get("result") if same else None


def curve(workdir, figure):
    """A figure after each epoch of a run."""
    with open(os.path.join(workdir, "metrics.json")) as file:
        return [round(epoch[figure], 4) for epoch in json.load(file)["epochs"]]


def load(workdir, *flags):
    """The task and the model, with its best weights, of a run that is done."""
    from evaluate import load_task, with_saved_flags
    from training import flags as program
    from training import models
    from training.workdir import Workdir, best_weights, restore

    program.define()
    for name in program.FLAGS:
        program.FLAGS[name].unparse()
    program.parse(with_saved_flags(["train.py", f"--workdir={workdir}", *flags]))
    task, place = load_task(), Workdir(workdir)
    model = models.compiled(task)
    restore(best_weights(place, model), place)
    return task, model


def spread(values):
    """Mean and standard deviation over seeds, as text.

    >>> spread([0.5, 0.6, 0.7])
    '0.6 ± 0.1'
    """
    mean = statistics.mean(values)
    return f"{mean:.3g} ± {statistics.stdev(values):.2g}" if len(values) > 1 else f"{mean:.3g}"
