"""Times cases side by side: each in fresh processes, medians, peak memory, JSON and a table."""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time

from benchmarks import table


def measure(step, repeats, warmup=2):
    """Median seconds of `step()` after some warm-up calls, which compile."""
    for _ in range(warmup):
        step()
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def options(name, cases, sizes=None, argv=None):
    """The command line of a benchmark whose cases run in fresh processes.

    Args:
      name: of the benchmark, and its module `benchmarks.NAME`.
      cases: what `--only` picks from; all by default.
      sizes: `(flag, values)`: numbers that each case is run at, all by default; such a case is named
        "CASE: SIZE" for `--case`.

    Returns:
      The options; `only` and `sizes` are lists.

    >>> chosen = options("memory", ["dense", "sparse"], ("slots", [32, 64]), ["--only=sparse", "--slots=64"])
    >>> chosen.only, chosen.sizes, chosen.rounds
    (['sparse'], [64], 3)
    """
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}")
    parser.add_argument("--case", choices=None if sizes else list(cases),
                        help="run one case here, print its JSON" + ", as 'CASE: SIZE'" * bool(sizes))
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a case")
    parser.add_argument("--repeats", type=int, default=7, help="timed steps a process, fewer if long")
    picks = {"only": cases, **({sizes[0]: list(map(str, sizes[1]))} if sizes else {})}
    for flag, choices in picks.items():
        parser.add_argument(f"--{flag}", default=";".join(choices),
                            help=f"of {'; '.join(choices)}, separated by semicolons")
    chosen = parser.parse_args(argv)
    for flag, choices in picks.items():
        picked = [value for value in getattr(chosen, flag).split(";") if value]
        for value in picked:
            if value not in choices:
                parser.error(f"--{flag}: {value} is none of {'; '.join(choices)}")
        setattr(chosen, flag, picked)
    if sizes:
        chosen.sizes = [int(value) for value in getattr(chosen, sizes[0])]
    return chosen


def main(name, cases, baseline, argv=None, bases=None):
    """Runs cases and writes `benchmarks/results/NAME.json` and the table `NAME.md` beside it.

    Args:
      name: of the benchmark, and its module `benchmarks.NAME`.
      cases: `{case: function}`; a function prepares, and returns `(step, facts)`: what to time, and a
        dict to report. It raises ImportError where a package is missing, and the case is left out.
      baseline: the case that the ratios divide by, or a function from a case to that.
      bases: what the table calls those (default: their names).
    """
    chosen = options(name, cases, argv=argv)
    if chosen.case:
        print(json.dumps(_one(cases[chosen.case], chosen.repeats)))
        return
    runs = {case: [] for case in chosen.only}
    for _ in range(chosen.rounds):  # rounds outside, so that a slow minute strikes every case
        for case in chosen.only:
            runs[case].append(fresh(name, case, chosen.repeats))
    results = {}
    for case, found in runs.items():
        if "missing" in found[0]:
            print(f"{case}: left out, {found[0]['missing']}", file=sys.stderr)
            continue
        seconds = sorted(run["seconds"] for run in found)
        results[case] = {**found[0], "seconds": statistics.median(seconds), "fastest": seconds[0],
                         "slowest": seconds[-1],
                         "peak_mib": statistics.median(run["peak_mib"] for run in found)}
    against = baseline if callable(baseline) else lambda case: baseline
    for case, row in results.items():
        if against(case) in results:
            row["ratio"] = row["seconds"] / results[against(case)]["seconds"]
    bases = bases or "* or *".join(sorted({against(case) for case in results}))
    columns = ["ratio", "seconds", "fastest", "slowest", "peak_mib", "parameters"]
    table.write(name, f"Ratios to *{bases}*, medians over fresh processes; seconds a step on the machine at "
                "hand.", "case", results, {column: column for column in columns}, "{:.3g}".format)


def _one(case, repeats):
    try:
        step, facts = case()
    except ImportError as error:
        return {"missing": str(error)}
    seconds = measure(step, repeats)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "peak_mib": round(peak), **facts}


def fresh(name, case, repeats, folder=None):
    """What `python -m benchmarks.NAME --case=CASE` prints, in a process of its own; of another checkout's."""
    command = [sys.executable, "-m", f"benchmarks.{name}", f"--case={case}", f"--repeats={repeats}"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"})
    if done.returncode:
        raise RuntimeError(f"{case}: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().split("\n")[-1])
