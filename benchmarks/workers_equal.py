"""Whether several workers train as one process does: the losses of the first 100 steps, by model.

`python -m benchmarks.workers_equal` trains each case in 1, 2 and 4 processes on this machine. Flags that it
does not know are for all cases, such as `--nojit_compile`.
"""

import argparse
import os
import sys
import tempfile
from unittest import mock

import numpy as np

from benchmarks import table
from santm_tf.training import launch

STEPS = 100
SMALL = ["--task=adding", "--length=24", "--steps_per_epoch=10", "--epochs=12", "--units=8"]
SIZES = ["--memory_slots=8", "--slot_width=8"]
SANTM = [*SMALL, *SIZES, "--attention_heads=2", "--locality=2"]
FALLING = [*SANTM, "--access_rate=0.25", "--initial_access_rate=1"]
CASES = {
    "santm learned mask": FALLING,
    "santm hard concrete": [*FALLING, "--mask=hard_concrete"],
    "santm ablation": [*FALLING, "--mask=ablation"],
    "santm adaptive": [*FALLING, "--mask=adaptive"],
    "santm change boundaries": [*FALLING, "--boundaries=change"],
    "santm sparse memory": [*SANTM, "--memory=sparse", "--memory_slots=64", "--access_rate=0.5",
                             "--initial_access_rate=0.5"],
    "santm key_value": [*SMALL, *SIZES, "--memory=key_value", "--recall=read"],
    "lstm": [*SMALL, "--model=lstm"],
    # A batch that no number of workers divides; the last one of the validation has a single row.
    "lstm padded copy": ["--task=copy", "--max_length=6", "--steps_per_epoch=10", "--epochs=12",
                          "--units=8", "--model=lstm", "--batch_size=29"],
    "lstm chars": ["--task=chars", f"--data_dir={os.path.abspath(__file__)}", "--window=16", "--epochs=50",
                   "--units=8", "--model=lstm"],
    "skip_lstm": [*SMALL, "--model=skip_lstm", "--cost_per_sample=0.001"],
    "uw_ntm": [*SMALL, "--model=uw_ntm"],
    "transformer": [*SMALL, "--model=transformer"],
}


COLUMNS = {"2": "2 workers", "4": "4 workers"}


def train(folder, cases, *more):
    """Trains cases one after another in this process, or as one of the workers that `TF_CONFIG` names.

    The chief leaves the loss of each step in `FOLDER/CASE.npy`.

    Args:
      cases: their names. more: flags.
    """
    from santm_tf.training import callbacks, commands, devices
    from santm_tf.training.board import Board

    places, joined, losses = [], devices._joined, []
    begin, end = callbacks.StopAfter.on_train_batch_begin, callbacks.StopAfter.on_train_batch_end

    def once(config):
        """TensorFlow can join other processes once."""
        if not places:
            places.append(joined(config))
        return places[0]

    def on_begin(stop, batch, logs=None):
        stop.model._loss_tracker.reset_state()  # so that the next is the step's own
        begin(stop, batch, logs)

    def on_end(stop, batch, logs=None):
        losses.append(logs["loss"])
        end(stop, batch, logs)

    with mock.patch.object(devices, "_joined", once), \
            mock.patch.object(Board, "_views", lambda board: ()), \
            mock.patch.object(callbacks.StopAfter, "on_train_batch_begin", on_begin), \
            mock.patch.object(callbacks.StopAfter, "on_train_batch_end", on_end):
        for case in cases:
            losses.clear()
            commands.train(["train", *more, *CASES[case], f"--workdir={folder}/{case}"])
            if places[0].chief:
                np.save(f"{folder}/{case}.npy", losses)


def losses(folder, count, cases, *more):
    """The loss of each step of cases that `count` workers train, `{case: [steps]}`."""
    folder = os.path.join(folder, str(count))
    os.makedirs(folder, exist_ok=True)
    strategy = ["--strategy=multiworker"] * (count > 1)
    code = launch.run([sys.executable, "-m", "benchmarks.workers_equal", f"--folder={folder}", "--only",
                       ";".join(cases), *more, *strategy], count)
    if code:
        raise RuntimeError(f"{count} workers ended with exit code {code}")
    return {case: np.load(f"{folder}/{case}.npy") for case in cases}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.workers_equal", allow_abbrev=False)
    parser.add_argument("--only", default=";".join(CASES), help="cases, separated by semicolons")
    parser.add_argument("--folder", help="train them in this process, and leave the losses there")
    chosen, more = parser.parse_known_args()
    cases = chosen.only.split(";")
    if chosen.folder:
        train(chosen.folder, cases, *more)
        return
    more = [f"--max_steps={STEPS}", "--batch_size=30", *more]
    with tempfile.TemporaryDirectory() as folder:
        alone = losses(folder, 1, cases, *more)
        rows = {case: {} for case in cases}
        for count in COLUMNS:
            for case, found in losses(folder, int(count), cases, *more).items():
                rows[case][count] = float(np.abs(found - alone[case]).max())
    table.write("workers_equal", f"Largest difference of the loss of one of {STEPS} steps from that of one "
                "process.", "case", rows, COLUMNS, "{:.1e}".format)


if __name__ == "__main__":
    main()
