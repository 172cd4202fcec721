"""Associative recall over 10,000 items, which no dense memory holds: learned with 16, run with many more.

`python -m benchmarks.recall` trains with each memory into `runs/recall/`, where what is there already is
taken as it is, and evaluates over more and more items. `--only=key_value` trains with one memory and keeps
the other's columns.
"""

import time

from benchmarks import table, trained

TRAINED = 16
MEMORIES = {
    "key_value": ["configs/associative_recall-key_value.cfg", f"--max_items={TRAINED}"],
    "sparse": ["configs/associative_recall.cfg", "--memory=sparse", "--top_k=4", "--memory_slots=65536",
               "--slot_width=32", "--boundaries=fixed", f"--max_items={TRAINED}", "--curriculum",
               "--curriculum_epochs=4", "--epochs=14"],
}
ITEMS = {16: (320, 32), 100: (64, 32), 1000: (32, 16), 10_000: (64, 4)}  # sequences, and those of a batch
VECTORS, BITS = 3, 6  # of an item
COLUMNS = {"steps": "steps", "sequences": "sequences", "chance": "wrong bits of 18 by chance",
           "sparse": "sparse", "key_value": "key_value",
           "sparse_seconds": "processor seconds a sequence, sparse", "key_value_seconds": "key_value"}


def seconds(workdir, *given):
    """The processor's time for a sequence in a batch, once compiled: the least of three."""
    task, model = trained.load(workdir, *given)
    x, *_ = next(iter(task.test))
    model(x)

    def once():
        began = time.process_time()
        model(x)
        return time.process_time() - began

    return min(once() for _ in range(3)) / len(x)


def main():
    options = trained.options("recall", MEMORIES)
    rows = table.read("recall")
    for memory in options.only:
        config, *given = MEMORIES[memory]
        folders = [f"runs/recall/{memory}-{seed}" for seed in range(options.seeds)]
        for seed, folder in enumerate(folders):
            trained.result(config, folder, *given, f"--seed={seed}")
        for items, (sequences, batch) in ITEMS.items():
            asked = [f"--test_items={items}", f"--test_sequences={sequences}", f"--batch_size={batch}"]
            rows.setdefault(f"{items} items", {}).update({
                "steps": (VECTORS + 1) * (items + 2), "sequences": sequences, "chance": VECTORS * BITS / 2,
                memory: trained.spread([trained.evaluated(folder, *asked)["test_wrong_bits"]
                                        for folder in folders]),
                f"{memory}_seconds": seconds(folders[0], *asked)})
            table.write("recall", f"Wrong bits of 18, trained on 2 to {TRAINED} items.", "run", rows, COLUMNS,
                        table.rounded)


if __name__ == "__main__":
    main()
