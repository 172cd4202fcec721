"""A sweep whose trainings take no time: `python -m tests.made_sweep --study=FILE ...`.

A training's figure after epoch n is |log10(rate) + 2| + 1 / n. Rates above 0.05 diverge, and 13 units are
killed at first. In its folder each notes that it has begun, that it is done, and that it was not alone.
"""

import fcntl
import json
import math
import os
import sys
import time

EPOCHS, SECONDS = 3, 0.01  # of an epoch


def patch(put=setattr):
    """Has sweeps of this process train so."""
    from santm_tf.training import goal, sweep, training_process

    put(training_process, "PROGRAM", [sys.executable, "-S", __file__, "--train"])
    put(goal, "found_apart", lambda argv: goal.Goal("val_loss", False))
    put(sweep, "EVERY", 0.05)


def train(argv):
    given = dict(text.lstrip("-").split("=", 1) for text in argv if "=" in text)
    os.chdir(given["workdir"])
    note("begun")
    with open("at_work", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note("not_alone")
        rate = float(given["learning_rate"])
        if rate > 0.05:
            sys.exit("error: the loss is nan at epoch 1, step 3")
        if given.get("units") == "13" and count("begun") == 1:
            os.kill(os.getpid(), 9)
        metrics = read()
        for epoch in range(len(metrics["epochs"]) + 1, EPOCHS + 1):
            time.sleep(SECONDS)
            metrics["epochs"].append({"epoch": epoch, "seconds": 0.1,
                                      "val_loss": abs(math.log10(rate) + 2) + 1 / epoch})
            write(metrics)
        write({**metrics, "best": {"val_loss": metrics["epochs"][-1]["val_loss"]}, "result": {"seed": 0}})
        note("done")


def note(what):
    with open(what, "a") as file:
        file.write("x")


def count(what, folder="."):
    """How often a training has noted something."""
    path = os.path.join(folder, what)
    return os.path.getsize(path) if os.path.exists(path) else 0


def read():
    if not os.path.exists("metrics.json"):
        return {"epochs": []}
    with open("metrics.json") as file:
        return json.load(file)


def write(metrics):
    with open("metrics.new", "w") as file:
        json.dump(metrics, file)
    os.replace("metrics.new", "metrics.json")


if __name__ == "__main__":
    if sys.argv[1] == "--train":
        train(sys.argv[2:])
    else:
        patch()
        from santm_tf.training.commands import sweep

        sweep()
