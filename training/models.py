"""From a configuration and a task to a compiled Keras model."""

import math
import re

import tensorflow as tf

from santm_tf import baselines
from santm_tf.embed import EmbedCategories
from santm_tf.errors import ArgumentError
from santm_tf.keras import keras, name_of
from santm_tf.machine import weights_fit
from santm_tf.training import optimizers
from santm_tf.training.config import GROUPS, known
from santm_tf.training.errors import UsageError
from santm_tf.training.shared_model import SharedModel

# Decay would undo how these start.
UNDECAYED = ["bias", "scores", "alpha", "multiplier", "step_weight", "gamma", "initial"]
OPTIMIZERS = {"adam": keras.optimizers.Adam, "adamw": keras.optimizers.AdamW,
              "nadam": keras.optimizers.Nadam, "rmsprop": keras.optimizers.RMSprop,
              "sgd": keras.optimizers.SGD, "lamb": optimizers.Lamb,
              "rectified_adam": optimizers.RectifiedAdam}


def compiled(config, task, replicas=None):
    """A Keras model for the task: the model's layer, and a dense layer that gives the logits.

    Args:
      config: resolved for the task, see `training.resolve`.
      replicas: see `build`.
    """
    model = build(config, task, replicas)
    made = optimizer(config.optimiser, task.steps_per_epoch, config.run.epochs)
    made.exclude_from_weight_decay([weight for weight in model.trainable_weights
                                    if any(part in name_of(weight, model) for part in UNDECAYED)])
    # The layers compile themselves, see --jit_compile.
    model.compile(made, task.loss, metrics=task.metrics, weighted_metrics=task.weighted_metrics,
                  jit_compile=False)
    return model


def build(config, task, replicas=None):
    """The same, not compiled.

    Args:
      task: a `Task`, or the `Outline` of one.
      replicas: the `santm_tf.replicas.Replicas` that train it together, or None.

    Raises:
      UsageError: sizes that cannot work.
    """
    around, width = config.around, config.layer[baselines.load(config.model).width]
    batch = _rows_kept(config, task, replicas) if task.stateful else None
    padded = task.padding is not None
    if task.vocabulary is None:
        layers = [keras.Input([task.length, task.features], batch)]
        if padded:
            layers.append(keras.layers.Masking(task.padding))
        if task.categories:
            layers.append(EmbedCategories(task.categories, around.embedding))
        if around.input_dropout:
            layers.append(keras.layers.Dropout(around.input_dropout))
    else:
        layers = [keras.Input([task.length], batch, dtype=tf.int32),
                  keras.layers.Embedding(task.vocabulary, around.embedding or width, mask_zero=padded),
                  keras.layers.Dropout(around.token_dropout, noise_shape=(None, None, 1)),
                  keras.layers.Dropout(config.layer.get("dropout", 0.0))]
    pooled = around.pooling == "mean" and not task.return_sequences
    try:
        with weights_fit():
            layers.append(baselines.make(
                config.model, config.made_with, steps=task.steps, stateful=task.stateful,
                return_sequences=task.return_sequences or pooled, seed=config.run.seed,
                jit_compile=config.run.jit_compile))
            if pooled:
                layers.append(keras.layers.GlobalAveragePooling1D())
            layers.append(keras.layers.Dense(task.outputs, name="logits"))
            return keras.Sequential(layers) if replicas is None else SharedModel(layers, replicas)
    except ArgumentError as error:
        raise UsageError(with_flags_named(str(error))) from error


def _rows_kept(config, task, replicas):
    """Of how many rows a stateful model keeps the state."""
    rows, count = config.run.batch_size, 1 if replicas is None else replicas.count
    if rows % count:
        raise UsageError(f"--batch_size={rows}: --task={task.name} keeps the state of each row; give a "
                         f"multiple of the {count} workers")
    return rows // count


def parameters(model):
    """The number of weights of a model or a layer that training changes."""
    return sum(math.prod(w.shape) for w in model.trainable_weights)


def optimizer(chosen, steps_per_epoch, epochs):
    """The Keras optimiser of a `training.config.Optimiser`, its rate's schedule over the whole run."""
    rate = chosen.learning_rate
    if chosen.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps_per_epoch * epochs)
    # Keras multiplies by an infinite norm, which makes every gradient NaN.
    options = {"global_clipnorm": chosen.clip_norm if math.isfinite(chosen.clip_norm) else None}
    if chosen.weight_decay is not None:
        options["weight_decay"] = chosen.weight_decay
    if chosen.ema:
        options.update(use_ema=True, ema_momentum=chosen.ema, ema_overwrite_frequency=steps_per_epoch)
    return OPTIMIZERS[chosen.optimizer](rate, **options)


def with_flags_named(message):
    """A library's `name=value` as the flag `--name=value` that the user gave."""
    flags = {name for group in GROUPS for name in known(group)}
    return re.sub(r"(?<![\w-])(\w+)=", lambda found: "--" * (found[1] in flags) + found[0], message)
