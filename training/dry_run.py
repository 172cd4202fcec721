"""What a run would train and cost, without training it."""

import inspect
import math

from santm_tf import baselines
from santm_tf.training.models import parameters


def description(config, model, task):
    """The model layer by layer, its weights, the FLOPs of a sequence and the memory that training takes."""
    lines = list(task.about)
    model.summary(print_fn=lambda line, **_: lines.append(line))
    steps = task.steps or next(iter(task.train))[0].shape[1]
    weights = parameters(model)
    model.optimizer.build(model.trainable_variables)
    optimiser = sum(math.prod(variable.shape) for variable in model.optimizer.variables)
    lines += [
        f"weights: {weights:,}",
        f"steps of a sequence: {steps:,}" + " (of the first batch)" * (task.steps is None),
        f"FLOPs of a sequence's forward pass: {_flops(config, model, task, steps)}",
        f"memory for weights, gradients and optimiser: {_mib(4 * (2 * weights + optimiser))}"]
    if external := sum(made.memory_needed(steps) for made in model.layers if hasattr(made, "memory_needed")):
        lines.append("memory for what backward needs of the external memory and its heads, a batch of "
                     f"{config.run.batch_size}: {_mib(config.run.batch_size * external)}")
    lines.append(f"training: {config.run.epochs} epochs of {task.steps_per_epoch:,} steps")
    return "\n".join(lines)


def _flops(config, model, task, steps):
    """By the model's formula, with the sizes of its options."""
    sizes, formula = config.made_with, baselines.load(config.model).cost
    if formula is None:
        return f"no formula for --model={config.model}"
    given = {**sizes, "features": task.features or config.around.embedding or sizes["units"], "steps": steps,
             "boundary_rate": 1 / sizes.get("segment_length", 1), "return_sequences": task.return_sequences}
    sizes = {name: given[name] for name in inspect.signature(formula).parameters
             if given.get(name) is not None}
    head = 2 * model.layers[-1].count_params() * (steps if task.return_sequences else 1)
    return f"{formula(**sizes).flops + head:,.0f}"


def _mib(count):
    return f"{count / 2**20:,.1f} MiB"
