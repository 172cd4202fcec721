"""A sweep's study: an Optuna study in a journal, and what it was made with."""

import os
import warnings

from santm_tf.errors import extra
from santm_tf.training import journal
from santm_tf.training.errors import UsageError

with extra("sweep"):
    import optuna
    from optuna.trial import TrialState

NAME = "santm-sweep"
FREE = {"data_dir", "checkpoint_minutes"}  # what may differ between the processes of a study
TRIES = 20  # to draw what has not been tried


def existing(asked):
    """The study of an `Asked` sweep; None where there is none yet.

    Raises:
      UsageError: it was made with other flags, or the file is another one.
    """
    if not os.path.exists(asked.study):
        return None
    storage = journal.storage(asked.study)
    if NAME not in optuna.get_all_study_names(storage):
        return None
    study = optuna.load_study(study_name=NAME, storage=storage, pruner=optuna.pruners.MedianPruner())
    made, now = study.user_attrs, _identity(asked)
    for kind, prefix in (("flags", "--"), ("search", "--search=")):
        before = made.get(kind, now[kind])
        for name in now[kind] | before:
            old, new = before.get(name), now[kind].get(name)
            if old != new:
                none = f"no {prefix}{name}"
                raise UsageError(f"{new or none}: the study in --study={asked.study} was made with "
                                 f"{old or none}; give the same, or name another file")
    return study


def made(asked, goal):
    """The study of an `Asked` sweep, which is made if it is not there. Its folder is locked."""
    storage = journal.storage(asked.study)
    study = optuna.create_study(storage=storage, study_name=NAME, load_if_exists=True,
                                direction="maximize" if goal.highest else "minimize")
    for name, value in {**_identity(asked), "goal": list(goal)}.items():
        if name not in study.user_attrs:
            study.set_user_attr(name, value)
    return existing(asked)


def proposal(study, space):
    """What the next trial tries, `{name: value}`, which no earlier one did.

    A tree-structured Parzen estimator proposes it (Bergstra et al. 2011). What it has proposed before is
    drawn anew, at last from what is left of the space. The number of the trial decides the draws.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        trials = study.get_trials()
        copy = optuna.create_study(direction=study.direction)
        copy.add_trials(trials)
        distributions = {name: dimension.distribution for name, dimension in space.items()}
        tried = [trial.params for trial in trials]
        for n in range(TRIES + 1):
            seed = len(trials) * (TRIES + 1) + n
            copy.sampler = (optuna.samplers.TPESampler(seed=seed, constant_liar=True) if n < TRIES else
                            optuna.samplers.BruteForceSampler(seed=seed))
            params = copy.ask(distributions).params
            if params not in tried:
                break
    return params


def counts(study):
    """How many trials have ended in which way: `{"complete": n, "pruned": n, "failed": n}`."""
    states = [trial.state for trial in study.get_trials(deepcopy=False)]
    return {"complete": states.count(TrialState.COMPLETE), "pruned": states.count(TrialState.PRUNED),
            "failed": states.count(TrialState.FAIL)}


def _identity(asked):
    """What all processes of a study have alike, as texts by name."""
    texts = {name: text for name, text in asked.config.texts().items()
             if name in asked.config.asked and name not in FREE | asked.space.keys()}
    return {"flags": texts, "search": {name: f"--search={name}={dimension.text}"
                                       for name, dimension in asked.space.items()}}
