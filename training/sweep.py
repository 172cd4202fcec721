"""Many trainings, which search for the best values of flags: what `santm-sweep` does once its flags are read.

A training's folder is locked while it goes on, by the sweep's process and by its own. So what is under way
and not locked was left by a process that was killed, and any process of the study takes it up again.
"""

import math
import os
import shlex
import sys
import time
from typing import NamedTuple

from santm_tf.errors import extra
from santm_tf.paths import write_whole
from santm_tf.training import goal, studies, sweep_report
from santm_tf.training.errors import Stopped, UsageError, say
from santm_tf.training.lock import lock
from santm_tf.training.pruning import Pruning
from santm_tf.training.stopping import Signals
from santm_tf.training.training_process import TrainingProcess, last_line, metrics

with extra("sweep"):
    import matplotlib  # noqa: F401  # the report needs it: what is missing is said before the trials
    import optuna
    from optuna.trial import TrialState

BEST, TRIAL = "best.cfg", "trial-"
EVERY = 1.0  # seconds between two looks at a training, or at those of other processes
STARTS = 3  # of a training that something kills


class Ended(NamedTuple):
    """How a training ended: its figure for a complete trial, or why it failed."""

    state: TrialState
    figure: float | None = None
    reason: str | None = None


def sweep(asked):
    """Has the study of an `Asked` sweep as many trials as asked for, and trains the best with several seeds.

    Returns:
      `(study, runs)`: Optuna's study, and the folders of the seeds' trainings by seed.
    """
    studies.existing(asked)  # a mistake is told before the data are read
    aim = goal.found_apart(["santm-train", *asked.given, f"--workdir={asked.folder}"])
    try:
        os.makedirs(asked.folder, exist_ok=True)
        with lock(os.path.join(asked.folder, "lock")):
            others = [name for name in sorted(os.listdir(asked.folder))
                      if name.startswith(TRIAL) or name in (BEST, *sweep_report.FILES)]
            if others and studies.existing(asked) is None:
                raise UsageError(f"--study={asked.study}: {asked.folder} holds {others[0]}, and there is no "
                                 "study; move it away, or name another file")
            study = studies.made(asked, aim)
    except OSError as error:
        raise UsageError(f"--study={asked.study}: {error.strerror}") from error
    with Signals() as signals:
        trainings = Trainings(asked, study, signals)
        trainings.all_trials()
        return study, trainings.seeds()


class Trainings:
    """The trainings of a study.

    Args:
      asked: an `Asked`. study: Optuna's. signals: a `Signals`.
    """

    def __init__(self, asked, study, signals):
        self.asked, self.study, self.signals = asked, study, signals
        self.aim = goal.Goal(*study.user_attrs["goal"])

    def all_trials(self):
        """Trains until no trial of the study is left, in this process or in another."""
        while any(not trial.state.is_finished() for trial in self._trials()) or self._missing():
            self._stop_if_asked()
            claim = self._claim()
            if claim is None:
                self._wait()
                continue
            number, held = claim
            with held:
                self._trial(number, held)

    def seeds(self):
        """Trains the best trial's flags with further seeds, `{seed: folder}`; writes their flag file."""
        if not studies.counts(self.study)["complete"]:
            return {}
        best, first = self.study.best_trial, self.asked.config.run.seed + 1  # the trial's own has chosen it
        path = os.path.join(self.asked.folder, BEST)
        with lock(self._folder("lock")):  # other processes of the study write it, too
            write_whole(path, "\n".join(self.asked.lines(best.params)) + "\n")
        runs = {seed: self._folder(f"{TRIAL}{best.number}-seed-{seed}")
                for seed in range(first, first + self.asked.seeds)}
        left = dict(runs)
        while left:
            for seed, folder in list(left.items()):
                if held := self._taken(folder):
                    with held:
                        self._seed(seed, folder, path, held)
                    del left[seed]
            if left:
                self._wait()
        return runs

    def _trials(self):
        return self.study.get_trials(deepcopy=False)

    def _missing(self):
        return len(self._trials()) < self.asked.trials

    def _claim(self):
        """A trial for this process, `(number, lock)`: one that was left, or a new one; None for neither."""
        with lock(os.path.join(self.asked.folder, "lock")):
            for trial in self._trials():
                if trial.state == TrialState.RUNNING and (held := self._taken(self._of(trial.number))):
                    if self._trials()[trial.number].state == TrialState.RUNNING:
                        say(f"trial {trial.number} was left under way; it goes on")
                        return trial.number, held
                    held.close()
            if not self._missing():
                return None
            number = len(self._trials())
            held = self._taken(self._of(number))
            params = studies.proposal(self.study, self.asked.space)
            self.study.add_trial(optuna.trial.create_trial(  # at once with its values
                state=TrialState.RUNNING, params=params,
                distributions={name: self.asked.space[name].distribution for name in params}))
            return number, held

    def _trial(self, number, held):
        """Trains a trial, and tells the study how it ended."""
        trial = optuna.trial.Trial(self.study, self._trials()[number]._trial_id)
        given = [self.asked.space[name].option.text(value) for name, value in trial.params.items()]
        say(f"trial {number}: {' '.join(given)}")
        folder = self._of(number)
        ended = self._trained(folder, [*self.asked.given, *given], held, Pruning(trial, self.aim.figure).due)
        if ended.reason:
            trial.set_user_attr("reason", ended.reason)
        self.study.tell(number, ended.figure, ended.state)
        shown = ended.reason or f"{self.aim.figure}={ended.figure}" * (ended.figure is not None)
        say(f"trial {number}: {ended.state.name.lower()} {shown}".rstrip())

    def _seed(self, seed, folder, flag_file, held):
        name = os.path.basename(folder)
        if name in self.study.user_attrs:  # it failed before
            return
        if "result" not in metrics(folder):
            say(f"seed {seed} of the best trial")
        ended = self._trained(
            folder, [*self.asked.given, f"--flagfile={flag_file}", f"--seed={seed}"], held)
        if ended.reason:
            self.study.set_user_attr(name, ended.reason)
            say(f"seed {seed} failed: {ended.reason}")

    def _trained(self, folder, given, held, pruned=lambda epochs: False):
        """Trains in a folder from where it is to its end; returns how it `Ended`."""
        starts = 0
        while "result" not in metrics(folder) and starts < STARTS:
            starts += 1
            process = TrainingProcess(folder, given, held)
            while process.running(EVERY):
                if self.signals.came:
                    process.stop()
                elif pruned(metrics(folder)["epochs"]):
                    process.stop()
                    return Ended(TrialState.PRUNED)
            self._stop_if_asked()
            if not process.killed_by:
                break
        found = metrics(folder)
        if pruned(found["epochs"]):  # as if it had been looked at after every epoch
            return Ended(TrialState.PRUNED)
        if "result" not in found:
            return Ended(TrialState.FAIL, reason=last_line(folder) if not process.killed_by else
                         f"killed {STARTS} times, last by signal {process.killed_by}")
        # Where no weights might become the best, those of the last epoch were tested.
        figure = {**found["epochs"][-1], **found["best"]}[self.aim.figure]
        if not math.isfinite(figure):
            return Ended(TrialState.FAIL, reason=f"its {self.aim.figure} is {figure}")
        return Ended(TrialState.COMPLETE, figure)

    def _of(self, number):
        return self._folder(f"{TRIAL}{number}")

    def _folder(self, name):
        return os.path.join(self.asked.folder, name)

    def _taken(self, folder):
        """The lock of a training's folder; None where another process has it."""
        os.makedirs(folder, exist_ok=True)
        return lock(os.path.join(folder, "lock"), wait=False)

    def _wait(self):
        time.sleep(EVERY)
        self._stop_if_asked()

    def _stop_if_asked(self):
        if self.signals.came:
            ended, command = sum(studies.counts(self.study).values()), shlex.join(sys.argv)
            raise Stopped(f"stopped after {ended} of {self.asked.trials} trials; go on with: "
                          f"{os.path.basename(sys.executable)} {command}", 128 + self.signals.came)
