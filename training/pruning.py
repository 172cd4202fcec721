"""When a trial is given up."""


class Pruning:
    """Tells a study of a trial's epochs, and asks its pruner after each whether the trial is worth going on.

    Args:
      trial: Optuna's `Trial`. figure: which of an epoch's figures counts.

    >>> import optuna
    >>> study = optuna.create_study(pruner=optuna.pruners.MedianPruner(n_startup_trials=1))
    >>> study.add_trial(optuna.trial.create_trial(value=1.0, intermediate_values={1: 2.0, 2: 1.0}))
    >>> pruning = Pruning(study.ask(), "val_loss")
    >>> pruning.due([{"epoch": 1, "val_loss": 1.5}])
    False
    >>> pruning.due([{"epoch": 1, "val_loss": 1.5}, {"epoch": 2, "val_loss": 1.4}])
    True
    """

    def __init__(self, trial, figure):
        self.trial, self.figure, self.seen = trial, figure, 0
        # By a process that was killed.
        self.told = trial.study.trials[trial.number].intermediate_values.keys()

    def due(self, epochs):
        """Whether a trial of these epochs, `[{figure: value}]`, is given up."""
        for figures in epochs[self.seen:]:
            self.seen += 1
            if figures["epoch"] not in self.told:
                self.trial.report(figures[self.figure], figures["epoch"])
            if self.trial.should_prune():
                return True
        return False
