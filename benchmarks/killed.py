"""Whether programs that are killed lose nothing, and end as those that nothing killed, bit for bit.

`python -m benchmarks.killed --kills=100` kills a training, an export, an evaluation and a drawing of figures
of a tiny run, in turn and at random moments. After a kill what was there before must be there, whole; the
same command, given again until it ends, must give what it gives where nothing kills it.
"""

import argparse
import collections
import contextlib
import json
import multiprocessing
import os
import pathlib
import random
import shutil
import signal
import tempfile
import time

import numpy as np
import tensorflow as tf

from benchmarks import table

RUN = ["--task=adding", "--length=8", "--steps_per_epoch=8", "--epochs=4", "--units=4", "--batch_size=32",
       "--nojit_compile", "--checkpoint_minutes=0"]
MODELS = {"lstm": ["--model=lstm"],
          "santm": ["--memory_slots=4", "--slot_width=4", "--attention_heads=1", "--access_rate=0.5"]}
MADE = "report.html", "plots", "training.lock"  # in a run's folder, and not by its training
AT_ONCE = 0.1  # seconds after a change in which half of the kills come, since changes are brief
COLUMNS = {"kills": "kills", "equal": "of which with an equal end", "ends": "ends", "unfit": "what was lost"}


class Programs:
    """Starts `santm_tf.training.commands` in processes that are forked from one with TensorFlow imported."""

    def __init__(self):
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["santm_tf.training.commands", "santm_tf.training.fit",
                                              "santm_tf.training.report"])

    def start(self, argv, said=os.devnull):
        """A process of `[program, *flags]`; what it says on standard output goes to a file."""
        process = self._context.Process(target=_program, args=(list(map(str, argv)), str(said)))
        process.start()
        return process

    def run(self, argv, said=os.devnull):
        """The seconds that a program takes that nothing kills.

        Raises:
          RuntimeError: it fails.
        """
        began = time.monotonic()
        process = self.start(argv, said)
        process.join()
        if process.exitcode:
            raise RuntimeError(f"exit code {process.exitcode} of {' '.join(map(str, argv))}")
        return time.monotonic() - began


def _program(argv, said):
    from santm_tf.training import commands
    from santm_tf.training.board import Board

    for number, path in (1, said), (2, os.devnull):
        with open(path, "w") as file:
            os.dup2(file.fileno(), number)
    Board._views = lambda board: ()  # drawing takes seconds
    getattr(commands, argv[0])(argv)


def steps(run):
    """The numbers of a run's checkpoints, the last one last."""
    return sorted(int(path.stem.removeprefix("ckpt-")) for path in (run / "checkpoints").glob("ckpt-*.index"))


def end_of(run):
    """The bytes of every tensor of a run's last checkpoint, and its figures but for the seconds."""
    run = pathlib.Path(run)
    reader = tf.train.load_checkpoint(str(run / "checkpoints" / f"ckpt-{steps(run)[-1]}"))
    held = {name: np.asarray(reader.get_tensor(name)).tobytes()
            for name in reader.get_variable_to_shape_map()}
    place = json.loads(held.pop("place/.ATTRIBUTES/py_state"))
    epochs = json.loads((run / "metrics.json").read_text())["epochs"]
    for figures in (place, *epochs):
        del figures["seconds"]
    for name in "save_counter/.ATTRIBUTES/VARIABLE_VALUE", "_CHECKPOINTABLE_OBJECT_GRAPH":
        del held[name]
    return held, place, epochs


def files(folder, but=()):
    """What all files below a folder hold, but for those of some names."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*"))
            if path.is_file() and not set(path.relative_to(folder).parts) & set(but)}


class Kind:
    """A program that is killed, in a folder of its own.

    Attributes:
      argv: the program and its flags. said: the file of what it says.
    """

    program, flags = "", ()

    def __init__(self, folder, first, old):
        self.folder, self.run, self.made, self.said = (
            folder, folder / "run", folder / "made", folder / "said")
        self.prepare(first, old)
        self.argv = [self.program, *self.flags, f"--workdir={self.run}"]

    def prepare(self, first, old):
        """Puts there what the program finds: a trained run; `old` is another, exported and drawn."""
        shutil.copytree(first, self.run)

    def kept(self, before, end):
        """Whether what was there before a kill is there, or what comes in its place.

        Args:
          before: what `look` gave. end: what `end` gives of a program that nothing killed.
        """
        return before == self.look()

    def look(self):
        return files(self.run, MADE)

    def end(self):
        """What the program gave."""
        return json.loads(self.said.read_text().strip().split("\n")[-1])


class Training(Kind):
    program = "train"

    def prepare(self, first, old):
        self.flags = [*(first / "flags.cfg").read_text().split(), "--resume"]

    def look(self):
        return steps(self.run)[-1:] if self.run.exists() else []

    def kept(self, before, end):
        if (self.run / "metrics.json").exists():
            json.loads((self.run / "metrics.json").read_text())
        return before <= self.look()

    def end(self):
        return end_of(self.run)


class Evaluation(Kind):
    program = "evaluate"


class Export(Kind):
    program = "export"

    def prepare(self, first, old):
        super().prepare(first, old)
        shutil.copytree(old / "export", self.made)
        self.flags = [f"--export_dir={self.made}"]

    def look(self):
        return super().look(), files(self.made)

    def kept(self, before, end):
        return super().look() == before[0] and (files(self.made) == before[1] or self.end() == end)

    def end(self):
        """Its description, and its answers to sequences."""
        x = np.random.default_rng(0).normal(size=[3, 8, 2]).astype(np.float32)
        loaded = tf.saved_model.load(str(self.made))
        found = loaded.signatures["serving_default"](inputs=x, lengths=np.array([8, 3, 5], np.int32))
        answers = {name: value.numpy().tobytes() for name, value in found.items()}
        return json.loads((self.made / "santm.json").read_text()), answers


class Drawing(Kind):
    program, flags = "evaluate", ["--plots"]

    def prepare(self, first, old):
        super().prepare(first, old)
        shutil.copy(old / "run" / "report.html", self.run)
        shutil.copytree(old / "run" / "plots", self.run / "plots")

    def look(self):
        return super().look(), self._pages()

    def _pages(self):
        return {name: held for name, held in files(self.run).items() if name == "report.html" or
                name.startswith("plots/") and not name.endswith(".new")}

    def kept(self, before, end):
        now = self._pages()
        return (super().look() == before[0] and before[1].keys() <= now.keys()
                and all(held in (before[1].get(name), end[1].get(name)) for name, held in now.items()))

    def end(self):
        return super().end(), self._pages()


KINDS = {"training": Training, "export": Export, "evaluation": Evaluation, "figures": Drawing}


class Killer:
    """Kills the programs of a kind, and compares their ends with that of one that nothing killed.

    Attributes:
      row: how many `kills` and `ends` there were, how many of those kills had an `equal` end, and what was
        lost: `unfit`.
    """

    def __init__(self, programs, kind, top, first, old, drawn):
        self._programs, self._kind, self._drawn = programs, kind, drawn
        self._make = lambda: kind(pathlib.Path(tempfile.mkdtemp(dir=top)), first, old)
        whole = self._make()
        self._took = programs.run(whole.argv, whole.said)
        self._end = whole.end()
        self.row, self._case, self._waiting = collections.Counter(kills=0, equal=0, ends=0, unfit=0), None, 0

    def kill(self):
        """Kills once, and in half of the cases has the program end."""
        while True:
            self._case = self._case or self._make()
            before = self._case.look()
            process = self._programs.start(self._case.argv, self._case.said)
            with contextlib.closing(process):
                if self._killed(process):
                    break
                self._ended(process)
        self.row["kills"] += 1
        self._waiting += 1
        self.row["unfit"] += not self._case.kept(before, self._end)
        if self._drawn.random() < 0.5:
            self.finish()

    def finish(self):
        """Has the program end, where a kill is without an end."""
        if self._waiting:
            with contextlib.closing(self._programs.start(self._case.argv, self._case.said)) as process:
                process.join()
                self._ended(process)

    def _killed(self, process):
        """Kills a process; False where it ended before."""
        if self._drawn.random() < 0.5:
            before = self._changes()
            while process.exitcode is None and self._changes() == before:
                process.join(0.005)
            process.join(self._drawn.uniform(0, AT_ONCE))
        else:
            process.join(self._drawn.uniform(0, self._took))
        if process.exitcode is not None:
            return False
        process.kill()
        process.join()
        return process.exitcode == -signal.SIGKILL

    def _changes(self):
        """The names below the case's folder: each file that is written has a new one for a while."""
        return sum((names + folders for _, folders, names in os.walk(self._case.folder)), [])

    def _ended(self, process):
        equal = process.exitcode == 0 and self._case.end() == self._end
        self.row.update(ends=1, equal=equal * self._waiting)
        shutil.rmtree(self._case.folder)
        self._case, self._waiting = None, 0


def kill(kills, seed, model, programs=None):
    """A row for each kind: so many kills together, in turn, at moments of a seed."""
    drawn, programs = random.Random(seed), programs or Programs()
    with tempfile.TemporaryDirectory() as top:
        first, old = pathlib.Path(top, "first"), pathlib.Path(top, "old")
        run = ["train", *RUN, *MODELS[model]]
        programs.run([*run, f"--workdir={first}"])
        programs.run([*run, "--seed=1", f"--workdir={old}/run", f"--export_dir={old}/export",
                      "--plots"])
        killers = {name: Killer(programs, kind, top, first, old, drawn) for name, kind in KINDS.items()}
        for i in range(kills):
            list(killers.values())[i % len(killers)].kill()
        for name, killer in killers.items():
            killer.finish()
            print(f"{name}: {dict(killer.row)}", flush=True)
    return {name: dict(killer.row) for name, killer in killers.items()}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.killed")
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--model", choices=MODELS, default="santm")
    chosen = parser.parse_args()
    rows = kill(chosen.kills, chosen.seed, chosen.model)
    table.write("killed", f"{chosen.kills} kills at random moments (seed {chosen.seed}).", "what was killed",
                rows, COLUMNS)
    if any(row["unfit"] or row["equal"] < row["kills"] for row in rows.values()):
        raise SystemExit("something was lost, or ended otherwise")


if __name__ == "__main__":
    main()
