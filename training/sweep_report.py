"""What a sweep found: its trials, which flags mattered, and how the best did with other seeds."""

import os
import warnings

from santm_tf.errors import extra
from santm_tf.training import page, studies
from santm_tf.training.page import Table, View
from santm_tf.training.training_process import metrics

with extra("sweep"):
    import matplotlib
    import optuna
    from optuna.trial import TrialState

FILES = "report.html", "plots"


def write(asked, study, runs):
    """Writes `report.html` and `plots/*.png` into a sweep's folder.

    Args:
      asked: the `Asked` sweep. study: Optuna's. runs: folders of the best trial's seeds, `{seed: folder}`.

    Returns:
      `(page, figures)`: the page's path, and the figures of the sweep, for JSON.
    """
    done = {seed: folder for seed, folder in runs.items() if "result" in metrics(folder)}
    failed = {seed: study.user_attrs[os.path.basename(folder)] for seed, folder in runs.items()
              if seed not in done}
    important, scores = importances(study), _scores(done)
    figures = {"trials": len(study.trials), **studies.counts(study), **_best(asked, study),
               "importance": important, "seeds": {**scores, "failed": len(failed)}}
    path, folder = (os.path.join(asked.folder, name) for name in FILES)
    tables = [_trials(study, asked.space), _importances(important), _seeds(failed, scores)]
    title = f"Sweep of {asked.config.model} on {asked.config.task}"
    page.write(path, folder, title, tables, _views(study))
    return path, figures


def importances(study):
    """The share of each flag in what made trials good, the largest first.

    By PED-ANOVA (Watanabe et al. 2023). Empty where all complete trials are alike, or fewer than two.
    """
    values = [trial.value for trial in study.get_trials(states=[TrialState.COMPLETE])]
    if len(set(values)) < 2:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its being experimental, and of few trials
        return {name: float(share) for name, share in optuna.importance.get_param_importances(study).items()}


def _best(asked, study):
    if not studies.counts(study)["complete"]:
        return {}
    best = study.best_trial
    return {"best": {"trial": best.number, study.user_attrs["goal"][0]: best.value, **best.params}}


def _scores(done):
    """The seeds' test figures: `{"n": seeds, figure: {"mean": m, "deviation": s}}`."""
    if not done:
        return {"n": 0}
    from santm_tf.training import comparison  # here: it imports TensorFlow

    (scores,) = comparison.write(done.values())[1].values()
    return scores


def _trials(study, space):
    heads = ["trial", "state", study.user_attrs["goal"][0], *space, "epochs", "why it failed"]
    rows = [[trial.number, trial.state.name.lower(),
             trial.value if trial.state == TrialState.COMPLETE else None,  # Optuna has one of a pruned trial
             *(trial.params[name] for name in space), len(trial.intermediate_values),
             trial.user_attrs.get("reason")] for trial in study.get_trials(deepcopy=False)]
    return Table("Trials", heads, rows)


def _importances(important):
    return Table("Importance of each flag, as shares of 1", ["flag", "importance"],
                 [[name, share] for name, share in important.items()])


def _seeds(failed, scores):
    rows = [[name, of["mean"], of["deviation"]] for name, of in scores.items() if name != "n"]
    rows += [[f"seed {seed} failed: {reason}", None, None] for seed, reason in failed.items()]
    return Table(f"The best flags with {scores['n']} other seeds", ["figure", "mean", "deviation"], rows)


def _views(study):
    if not studies.counts(study)["complete"]:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        axes = optuna.visualization.matplotlib.plot_parallel_coordinate(
            study, target_name=study.user_attrs["goal"][0])
    axes.set_title("")
    figure = axes.figure
    figure.suptitle("Parallel coordinates")
    figure.set_size_inches(9, 5)
    figure.subplots_adjust(bottom=0.22)  # for the flags' names
    pyplot.close(figure)
    yield View("parallel_coordinates", figure,
               "A line is a complete trial: its figure on the left, and what each flag was. Dark lines are "
               "good trials; where they meet on an axis, the flag matters.")
