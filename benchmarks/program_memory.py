"""The memory of a train step over N slots by XLA's own account: dense against sparse.

`python -m benchmarks.program_memory`: the models of `benchmarks.memory` (B=1, T=100, W=32, k=4).
XLA plans every buffer of a program when it compiles it and reports the sum: arguments, results and all that
lives between. Shown is the larger of a train step's two programs, forward and backward. That does not depend
on the machine's load, nor on what the process holds beside. `T N W` is what a dense memory's copies for the
backward pass take alone.
"""

import argparse
import glob
import os
import re
import subprocess
import sys
import tempfile

from benchmarks import memory, table

SLOTS = 32, 1024, 16384, 65536, 262144
KINDS = "dense", "sparse"
COLUMNS = {"dense": "dense, MiB", "sparse": "sparse, MiB", "ratio": "dense / sparse", "formula": "T N W, MiB",
           "to_formula": "T N W / sparse"}
REPORT = re.compile(r"Total bytes used: (\d+)")


def planned(kind, slots):
    """MiB of the largest program of a train step."""
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "TF_XLA_FLAGS": "", "TF_CPP_MIN_LOG_LEVEL": "3",
                       "XLA_FLAGS": f"--xla_dump_to={folder} --xla_dump_hlo_as_text"}
        subprocess.run([sys.executable, "-m", "benchmarks.memory", f"--case=train, {kind}, {slots}",
                        "--repeats=1"], env=environment, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        sizes = []
        for path in glob.glob(os.path.join(folder, "*memory-usage-report.txt")):
            with open(path) as file:
                sizes.append(int(REPORT.search(file.read())[1]))
    return max(sizes) / 2**20


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.program_memory")
    parser.add_argument("--slots", default=";".join(map(str, SLOTS)), help="N, separated by semicolons")
    rows = table.read("program_memory")
    for slots in map(int, parser.parse_args().slots.split(";")):
        row = {kind: planned(kind, slots) for kind in KINDS}
        formula = 4 * memory.STEPS * slots * memory.WIDTH / 2**20
        rows[f"N={slots}"] = {**row, "ratio": row["dense"] / row["sparse"], "formula": formula,
                              "to_formula": formula / row["sparse"]}
        table.write("program_memory", f"A train step's largest program, B=1, T={memory.STEPS}.", "slots",
                    rows, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
