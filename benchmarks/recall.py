"""Associative recall over 10,000 items, which no dense memory holds: learned with 16, run with many more.

`python -m benchmarks.recall` trains with `configs/associative_recall.cfg` and the flags below into
`runs/recall/`, where what is there already is taken as it is, and evaluates over more and more items, each in
a fresh process.
"""

import json
import subprocess
import sys

from benchmarks import table, trained

WORKDIR = "runs/recall"
SLOTS, WIDTH, TRAINED = 65_536, 32, 16
FLAGS = ["--memory=sparse", "--top_k=4", f"--memory_slots={SLOTS}", f"--slot_width={WIDTH}",
         "--boundaries=fixed", f"--max_items={TRAINED}", "--curriculum", "--curriculum_epochs=4",
         "--epochs=14"]
ITEMS = {16: 320, 100: 32, 1000: 16, 10_000: 4}  # and over how many sequences
VECTORS, BITS = 3, 6  # of an item
COLUMNS = {"steps": "steps", "sequences": "sequences", "wrong_bits": "wrong bits of 18",
           "chance": "by chance", "dense": "T N W of a dense memory, GiB"}


def evaluated(items, sequences):
    """Wrong bits of an answer, over sequences of so many items."""
    command = [sys.executable, "evaluate.py", f"--workdir={WORKDIR}", f"--test_items={items}",
               f"--test_sequences={sequences}"]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ran.stdout.strip().split("\n")[-1])["test_wrong_bits"]


def main():
    trained.result("configs/associative_recall.cfg", WORKDIR, *FLAGS)
    rows = {}
    for items, sequences in ITEMS.items():
        steps = (VECTORS + 1) * (items + 2)
        rows[f"{items} items"] = {
            "steps": steps, "sequences": sequences, "wrong_bits": evaluated(items, sequences),
            "chance": VECTORS * BITS / 2, "dense": 4 * steps * SLOTS * WIDTH / 2**30}
        table.write("recall", f"Trained on 2 to {TRAINED} items, with {SLOTS} slots.", "run", rows,
                    COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
