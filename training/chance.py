"""What tells a run from guessing."""

import math

from santm_tf.keras import keras

LEAST = 0.05  # of the way from guessing to perfect; below it is no better than guessing


def progress(name, value, chance):
    """How far a figure has come from guessing, 0, to perfect, 1. Accuracy is perfect at 1, all else at 0.

    >>> progress("accuracy", 0.75, chance=0.5), progress("mse", 0.5, chance=2.0)
    (0.5, 0.75)
    """
    perfect = 1.0 if name == "accuracy" else 0.0
    return (value - chance) / (perfect - chance) if perfect != chance else 1.0


class AtChance(keras.callbacks.Callback):
    """Says what to try where the validation figures are at chance after a third of a run.

    Args:
      say: function of a line. chance: what guessing scores, by metric name.
      epochs: of the whole run; of fewer than three nothing is said.
      tries: what to try, a text.
    """

    def __init__(self, say, chance, epochs, tries):
        super().__init__()
        self.say, self.chance, self.tries = say, chance, tries
        self.epochs, self.third = epochs, math.ceil(epochs / 3) if epochs >= 3 else None
        self.best = {}

    def on_epoch_end(self, epoch, logs=None):
        for name, chance in self.chance.items():
            if (value := (logs or {}).get(f"val_{name}")) is not None:
                self.best[name] = max(progress(name, value, chance), self.best.get(name, -math.inf))
        if epoch + 1 == self.third and self.best and max(self.best.values()) < LEAST:
            figures = ", ".join(f"val_{name}={logs[f'val_{name}']:.3f} (chance {self.chance[name]:.3f})"
                                for name in self.best)
            self.say(f"no better than guessing after {epoch + 1} of {self.epochs} epochs: {figures}; try "
                     f"{self.tries}")


def tries(config):
    """What may bring a run away from chance: flags, as a text."""
    rate = config.optimiser.learning_rate
    found = [f"--learning_rate={rate / 3:.2g} or {rate * 3:.2g}", "more --epochs"]
    shorter = [f"--{name}" for name in ("curriculum", "max_length", "length", "delay") if name in config.data]
    if shorter and not config.data.get("curriculum"):
        found.append(f"shorter sequences ({shorter[0]})")
    return ", ".join(found)
