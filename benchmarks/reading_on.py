"""Heads that read on, against heads that look for a key at every step: `copy` at lengths not trained on.

`python -m benchmarks.reading_on` trains into `runs/reading_on/`, where what is there already is taken as it
is; `--only="reads on"` trains some, and keeps the other rows of the table.
"""

import statistics

from benchmarks import trained
from benchmarks.rivals_settings import SETTINGS, flags

LENGTHS = 20, 40, 100, 400
FLAGS = [*flags("copy", "santm"), f"--epochs={SETTINGS['copy'].epochs}", "--memory=key_value",
         "--recall=read", "--memory_slots=1024", "--slot_width=64", "--key_width=32",
         "--learning_rate=0.003"]
CASES = {"reads on": ["--reads_on"], "looks for keys alone": [],
         "looks for keys alone, rate 0.001": ["--learning_rate=0.001"]}
COLUMNS = {str(length): f"{length} vectors" for length in LENGTHS} | {
    "chance": "chance at 20", "seeds": "seeds", "seconds": "seconds a run"}


def row(name, seeds):
    """A row of the table: wrong bits of a sequence by its length."""
    found = {length: [] for length in LENGTHS}
    seconds = []
    for seed in range(seeds):
        workdir = trained.folder("reading_on", name, seed)
        seconds.append(trained.result(None, workdir, *FLAGS, *CASES[name], f"--seed={seed}")["seconds"])
        for length in LENGTHS:
            line = trained.evaluated(workdir, f"--test_length={length}", "--batch_size=8")
            found[length].append(line["test_wrong_bits"])
    return {**{str(length): trained.spread(values) for length, values in found.items()}, "wrong_bits": found,
            "chance": 8 * 20 / 2, "seeds": seeds, "seconds": statistics.median(seconds)}


def main():
    trained.fill("reading_on", trained.options("reading_on", CASES), CASES, row,
                 "Wrong bits of a sequence, mean ± deviation over seeds; a vector has 8 bits.", "heads",
                 COLUMNS)


if __name__ == "__main__":
    main()
