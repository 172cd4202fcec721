"""From flags and a task to a compiled Keras model."""

import functools
import math

import tensorflow as tf

import baselines
from santm_tf import capacity, compat
from santm_tf.errors import ArgumentError
from training import flags

FLAGS = flags.FLAGS
# Decay would undo how these start.
UNDECAYED = ["bias", "scores", "alpha", "multiplier", "step_weight", "gamma", "initial"]
# Flags of the group "model" that are not the layer's own, and what they need: the task's kind, or a flag.
AROUND = {"model", "match_parameters", "embedding", "token_dropout", "pooling"}
OF_ACCESS = {"access_rate", "initial_access_rate", "retention", "mask_schedule", "mask_warmup"}
NEEDED = {"allocate": ("memory", "sparse"), "normaliser": ("memory", "sparse"),
          "search": ("memory", "sparse"), "mask_surrogate": ("mask", "learned")}


def compiled(task):
    """A Keras model for the task: the model's layer, and a dense layer that gives the logits."""
    if FLAGS.access_rate == flags.AUTO:
        steps = FLAGS.mask_period or steps_of(task)
        if steps is None:
            raise flags.UsageError(f"--access_rate={flags.AUTO}: --task={task.name} has sequences of many "
                                   "lengths; give --mask_period")
        best = capacity.optimal_access_rate(steps, FLAGS.retention, FLAGS.memory_slots)
        FLAGS.access_rate, FLAGS.initial_access_rate = best, max(best, FLAGS.initial_access_rate)
    try:
        if FLAGS.match_parameters:
            match(task, FLAGS.match_parameters)
        model = build(task)
    except ArgumentError as error:
        raise flags.UsageError(flags.with_flags_named(str(error))) from error
    model.compile(optimizer(task.steps_per_epoch, FLAGS.epochs), task.loss, task.metrics,
                  weighted_metrics=task.weighted_metrics)
    return model


def _refuse_unused(task):
    """Refuses a flag that was given and that neither the task's kind nor the model uses."""
    own = {"max_memory" if name == "memory_horizon" else name for name in baselines.options(FLAGS.model)}
    for name, text in flags.given(flags.MODEL).items():
        if name in ("embedding", "token_dropout") and task.vocabulary is None:
            raise flags.UsageError(f"{text}: --task={task.name} has no tokens; leave it out")
        if name == "pooling" and task.return_sequences:
            raise flags.UsageError(f"{text}: --task={task.name} has an output at every step; leave it out")
        if name not in AROUND | own | (OF_ACCESS if FLAGS.model == "santm" else set()):
            raise flags.UsageError(f"{text}: --model={FLAGS.model} does not use it; leave it out")
        if name in NEEDED:
            other, value = NEEDED[name]
            if FLAGS[other].value != value:
                raise flags.UsageError(f"{text}: needs --{other}={value}; add it, or leave this out")


def build(task):
    _refuse_unused(task)
    steps = steps_of(task)
    batch = FLAGS.batch_size if task.stateful else None
    padded = task.padding is not None
    if task.vocabulary is None:
        layers = [tf.keras.Input([task.length, task.features], batch)]
        if padded:
            layers.append(tf.keras.layers.Masking(task.padding))
    else:
        width = FLAGS.embedding or FLAGS.units
        layers = [tf.keras.Input([task.length], batch, dtype=tf.int32),
                  tf.keras.layers.Embedding(task.vocabulary, width, mask_zero=padded),
                  tf.keras.layers.Dropout(FLAGS.token_dropout, noise_shape=(None, None, 1)),
                  tf.keras.layers.Dropout(FLAGS.dropout)]
    pooled = FLAGS.pooling == "mean" and not task.return_sequences
    given = FLAGS.flag_values_dict() | {"memory_horizon": FLAGS.max_memory}
    options = {name: given[name] for name in baselines.options(FLAGS.model) if given[name] is not None}
    layers.append(baselines.make(FLAGS.model, options, steps=steps, stateful=task.stateful,
                                 return_sequences=task.return_sequences or pooled, seed=FLAGS.seed,
                                 jit_compile=FLAGS.jit_compile))
    if pooled:
        layers.append(tf.keras.layers.GlobalAveragePooling1D())
    layers.append(tf.keras.layers.Dense(task.outputs, name="logits"))
    return tf.keras.Sequential(layers)


def steps_of(task):
    """The steps of a training batch, None where batches differ."""
    return task.train.element_spec[0].shape[1]


def parameters(model):
    """The number of weights that training changes."""
    return sum(w.shape.num_elements() for w in model.trainable_weights)


def match(task, wanted):
    """Sets the flags of width so that the model has the wanted number of weights, within 5 %.

    That is `--units`; for the transformer, whose units are multiples of its heads, `--feed_forward`
    too.
    """
    multiple = FLAGS.attention_heads if FLAGS.model == "transformer" else 1

    @functools.cache
    def size(n, feed_forward=None):
        FLAGS.units, FLAGS.feed_forward = n * multiple, feed_forward
        return parameters(build(task))

    def largest(size):
        """The largest n, at least 1, of which size is at most what is wanted."""
        below, above = 1, 4
        if size(below) > wanted:
            return below
        while size(above) <= wanted:
            below, above = above, 4 * above
        while above - below > 1:
            # Between the two, sizes are nearly a power of n: to look there needs few builds.
            share = math.log(wanted / size(below)) / math.log(size(above) / size(below))
            middle = min(max(int(below * (above / below) ** share), below + 1), above - 1)
            below, above = (middle, above) if size(middle) <= wanted else (below, middle)
        return below

    n, feed_forward = largest(size), None
    if FLAGS.model == "transformer":
        feed_forward = largest(lambda width: size(n, width))
    elif wanted - size(n) > size(n + 1) - wanted:
        n += 1
    got = size(n, feed_forward)
    FLAGS.units, FLAGS.feed_forward = n * multiple, feed_forward
    if abs(got - wanted) > 0.05 * wanted:
        raise flags.UsageError(f"--match_parameters={wanted}: --model={FLAGS.model} comes no nearer than "
                               f"{got} weights (--units={FLAGS.units}) with the other sizes as they are")
    tf.keras.utils.set_random_seed(FLAGS.seed)  # as if this size had been given


def optimizer(steps_per_epoch, epochs):
    """The optimiser that the flags name, its learning rate's schedule over the whole run."""
    rate = FLAGS.learning_rate
    if FLAGS.schedule == "cosine":
        rate = tf.keras.optimizers.schedules.CosineDecay(rate, steps_per_epoch * epochs)
    name, options = flags.OPTIMIZERS[FLAGS.optimizer], {"global_clipnorm": FLAGS.clip_norm}
    if FLAGS.weight_decay is not None:
        options["weight_decay"] = FLAGS.weight_decay
    if FLAGS.ema:
        if FLAGS.optimizer in flags.FROM_ADDONS:
            raise flags.UsageError(f"--ema={FLAGS.ema}: --optimizer={FLAGS.optimizer} keeps no average; use "
                                   "adam or adamw")
        options.update(use_ema=True, ema_momentum=FLAGS.ema, ema_overwrite_frequency=steps_per_epoch)
    if FLAGS.optimizer not in flags.FROM_ADDONS:
        made = getattr(tf.keras.optimizers, name)(rate, **options)
        made.exclude_from_weight_decay(var_names=UNDECAYED)
        return made
    try:
        return getattr(compat.addons().optimizers, name)(rate, **options)
    except ImportError as error:
        raise flags.UsageError(f"--optimizer={FLAGS.optimizer}: {error}") from error
