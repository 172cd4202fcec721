"""The speed of this checkout against another one's: the same cases, by turns, each in a fresh process.

`python -m benchmarks.versions --before=FOLDER`, FOLDER being a checkout of an earlier commit. Each case of
`benchmarks.step`, `benchmarks.prefetch` and `benchmarks.memory` that is named below runs in both, by turns,
so that a slow minute strikes both. Ratios are this one's to the other's; below 1 this one is faster.
"""

import argparse
import statistics

from benchmarks import harness, table

CASES = {"step": ("NTM top, rate 1", "SANTM, rate 0.5"), "memory": ("train, sparse: 65536",),
         "prefetch": ("train, rate 0.05", "inference, rate 1")}
COLUMNS = {"ratio": "time, ratio", "least": "least of a round", "most": "most of a round",
           "memory": "peak memory, ratio"}


def compared(benchmark, case, before, rounds, repeats):
    """A row: the median over rounds of the ratios within a round."""
    times, peaks = [], []
    for round_ in range(rounds):
        order = (None, before) if round_ % 2 else (before, None)
        runs = {folder: harness.fresh(benchmark, case, repeats, folder) for folder in order}
        times.append(runs[None]["seconds"] / runs[before]["seconds"])
        peak = "peak_mib" if "peak_mib" in runs[None] else "mib"
        peaks.append(runs[None][peak] / runs[before][peak])
    return {"ratio": statistics.median(times), "least": min(times), "most": max(times),
            "memory": statistics.median(peaks)}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.versions")
    parser.add_argument("--before", required=True, help="folder of the other checkout")
    parser.add_argument("--only", default=";".join(CASES), help="benchmarks, separated by semicolons")
    parser.add_argument("--rounds", type=int, default=3, help="fresh processes a case and checkout")
    parser.add_argument("--repeats", type=int, default=7, help="timed steps a process, fewer if long")
    chosen = parser.parse_args()
    rows = table.read("versions")
    for benchmark in chosen.only.split(";"):
        for case in CASES[benchmark]:
            rows[f"{benchmark}: {case}"] = compared(benchmark, case, chosen.before, chosen.rounds,
                                                    chosen.repeats)
            table.write("versions", "This checkout to another one, medians over rounds of one process each.",
                        "case", rows, COLUMNS, "{:.3g}".format)


if __name__ == "__main__":
    main()
