"""Memory that the language models' tasks take for a long text: `python -m benchmarks.streaming`.

A generated text of 100 MB, read in a fresh process per task: seconds to load it, the first time and from
the cache, and by how much the process's peak memory grows, over a load of 1 MB and a few batches of it,
with as many batches as read 50 MB.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time


def generate(path, size):
    """Lines of words, the n-th most frequent of 50,000 as frequent as 1 / n."""
    import numpy as np

    rng = np.random.default_rng(0)
    words = np.array([f"{n:x}".encode() for n in range(50_000)], object)
    share = 1 / np.arange(1, len(words) + 1)
    with open(path, "wb") as file:
        while file.tell() < size:
            line = rng.choice(words, 20_000, p=share / share.sum())
            file.writelines(b" ".join(part) + b"\n" for part in line.reshape(-1, 20))
        file.truncate(size)


def case(name, folder):

    from santm_tf import tasks

    load = {"words": tasks.language.load_words, "chars": tasks.language.load_chars}[name]

    def peak():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    for _ in load(32, 0, data_dir=os.path.join(folder, "short")).train.take(10):
        pass
    before, begun = peak(), time.perf_counter()
    load(32, 0, data_dir=os.path.join(folder, "long"))
    first, begun = time.perf_counter() - begun, time.perf_counter()
    task = load(32, 0, data_dir=os.path.join(folder, "long"))
    again, loaded, begun = time.perf_counter() - begun, peak(), time.perf_counter()
    steps = task.steps_per_epoch // 2
    for _ in task.train.take(steps):
        pass
    return {"seconds, first": round(first, 1), "seconds, again": round(again, 1),
            "MiB more after loading": round(loaded - before), "MiB more after half an epoch":
            round(peak() - before), "batches a second": round(steps / (time.perf_counter() - begun))}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.streaming")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--case", nargs=2, help="run one here, on the texts in a folder")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(case(*options.case)))
        return
    with tempfile.TemporaryDirectory() as folder:
        generate(os.path.join(folder, "short"), 1_000_000)
        generate(os.path.join(folder, "long"), options.megabytes * 1_000_000)
        for name in "words", "chars":
            done = subprocess.run(
                [sys.executable, "-m", "benchmarks.streaming", "--case", name, folder], check=True,
                capture_output=True, text=True,
                env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "SANTM_CACHE": os.path.join(folder, "cache")})
            print(name, done.stdout.strip().split("\n")[-1], flush=True)


if __name__ == "__main__":
    main()
