"""What depends on the task in a configuration: the automatic access rate, a width that matches a size."""

import dataclasses
import functools
import math

from santm_tf import baselines, capacity
from santm_tf.access import FIXED
from santm_tf.keras import keras
from santm_tf.memories import MEMORIES
from santm_tf.training import models
from santm_tf.training.config import Access
from santm_tf.training.errors import UsageError

FALL = 0.6  # the share of the epochs over which the access rate comes down to its target


def resolve(config, task):
    """The configuration with all that depends on the task. A resolved one stays as it is.

    Raises:
      UsageError: an option that has no use for this task, or a size that cannot be reached.
    """
    _refuse_unused(config, task)
    if config.access and config.access.access_rate == "auto":
        steps = config.layer["mask_period"] or task.steps
        if steps is None:
            raise UsageError(f"--access_rate=auto: --task={task.name} has sequences of many lengths; give "
                             "--mask_period")
        best = capacity.optimal_access_rate(steps, config.access.retention, config.layer["memory_slots"],
                                            MEMORIES[config.layer["memory"]].cell_class.erases)
        if best > config.access.initial_access_rate:
            raise UsageError(f"--initial_access_rate={config.access.initial_access_rate}: is below "
                             f"{best:.4g}, the rate of --access_rate=auto; give no less, or leave it out")
        config = dataclasses.replace(config, access=dataclasses.replace(
            config.access, access_rate=best, retention=Access.retention))
    falling_epochs(config)
    return matched(config, task) if config.around.match_parameters else config


def falling_epochs(config):
    """Over how many epochs the access rate comes down: none where it does not."""
    access = config.access
    if not access or config.layer["mask"] in FIXED or access.access_rate >= access.initial_access_rate:
        if access and access.mask_below is not None:
            raise UsageError(f"--mask_below={access.mask_below}: the access rate does not fall; use a "
                             "learned --mask and an --access_rate below --initial_access_rate")
        return 0
    falling = max(1, round(FALL * config.run.epochs))
    if access.mask_warmup >= falling:
        raise UsageError(f"--mask_warmup={access.mask_warmup}: the rate falls over the first {falling} "
                         "epochs; give fewer")
    return falling


def matched(config, task):
    """The configuration whose model has the wanted number of weights, within 5 %.

    See `baselines.model.Model` for the options that it chooses: width, multiple, finer.
    """
    model, wanted = baselines.load(config.model), config.around.match_parameters
    multiple = config.layer[model.multiple] if model.multiple else 1

    def sized(n, finer=None):
        widths = {model.width: n * multiple} | ({model.finer: finer} if model.finer else {})
        return dataclasses.replace(config, layer={**config.layer, **widths})

    @functools.cache
    def size(*widths):
        return models.parameters(models.build(sized(*widths), task))

    def largest(size):
        """The largest n whose size is at most the wanted one; at least 1."""
        below, above = 1, 4
        if size(below) > wanted:
            return below
        while size(above) <= wanted:
            below, above = above, 4 * above
        while above - below > 1:
            # Between the two, sizes are nearly a power of n: this guess needs few builds.
            share = math.log(wanted / size(below)) / math.log(size(above) / size(below))
            middle = min(max(int(below * (above / below) ** share), below + 1), above - 1)
            below, above = (middle, above) if size(middle) <= wanted else (below, middle)
        return below

    widths = [largest(size)]
    if model.finer:
        widths.append(largest(lambda finer: size(*widths, finer)))
    elif wanted - size(*widths) > size(widths[0] + 1) - wanted:
        widths[0] += 1
    got, config = size(*widths), sized(*widths)
    if abs(got - wanted) > 0.05 * wanted:
        width = f"--{model.width}={config.layer[model.width]}"
        raise UsageError(f"--match_parameters={wanted}: --model={config.model} comes no nearer than {got} "
                         f"weights ({width}) with the other sizes as they are")
    keras.utils.set_random_seed(config.run.seed)  # as if this size had been given
    return config


def _refuse_unused(config, task):
    unused = {"embedding": task.vocabulary is None and "has no tokens",
              "token_dropout": task.vocabulary is None and "has no tokens",
              "input_dropout": task.vocabulary is not None and "has tokens; give --token_dropout",
              "pooling": task.return_sequences and "has an output at every step",
              "dynamic_rate": not task.stateful and "carries no state from window to window"}
    for option, text in config.given().items():
        if why := unused.get(option.name):
            raise UsageError(f"{text}: --task={task.name} {why}; leave it out")
