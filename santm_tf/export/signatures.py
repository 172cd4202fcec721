"""The signatures of an exported model, which check what they are given."""

import math

import tensorflow as tf

from santm_tf.lengths import every

STATES = 2**31  # bytes that `initial_state` makes at most


def signatures(model, front=None, answer=None):
    """What `santm_tf.export` writes of a `ServingModel`, as functions by name.

    `serving_default(inputs, lengths) -> {"outputs"}`: what the Keras model gives, for any number of sequences
      of any lengths. Inputs are float32 `[B, T, d]`, or int32 tokens `[B, T]`; lengths int32 `[B]`. What is
      beyond a sequence's length is ignored. A front takes other inputs, those of its `signature`; an answer
      gives other outputs (`santm_tf.answers`). So they do in what follows.
    `initial_state(batch) -> state`, `step(inputs, **state) -> {"outputs", **state}`: streams, one step
      `[B, d]` or `[B]` at a time. The outputs `[B, outputs]` are those of the sequence up to there. Rows may
      be at different steps. A state is of one model: another refuses it. A tensor of another shape,
      or with a number that is not finite, is refused, too, and a batch whose states take over 2 GiB. A front
      without a `step` of its own leaves these inputs as they are. A model that cannot go on from a state has
      neither.
    `score(inputs, lengths, targets) -> {"loss"}`, of a compiled model: each sequence's own loss `[B]`, what
      Keras gives for that sequence alone without what layers add. Of a model with an output at every step
      that is the mean over the sequence's steps, and there is a last argument, `weights` `[B, T]`, 1 for a
      step that counts; as in Keras they scale the sum and not the count of steps.
    """
    answered = answer or (lambda y: {"outputs": y})
    raw, steps = inputs_of(model, front), step_inputs_of(model, front)
    stepped = getattr(front, "step", None)
    most = STATES // max(1, sum(spec.dtype.size * math.prod(spec.shape[1:])
                                for spec in state_of(model, front).values()))

    def prepared(given):
        return _prepared(model, *front(**given)) if front else _sequences(model, **given)

    def serving_default(given):
        return answered(model.whole(*prepared(given))[0])

    def initial_state(batch):
        batch = _shaped("batch", batch)
        batch = _required(batch, (batch > 0, "batch: must be at least 1", batch), (
            batch <= most, f"batch: must be at most {most}, whose states take 2 GiB", batch))
        return {**(front.first(batch) if stepped else {}), **model.first(batch)}

    def step(given, state):
        if not stepped:
            given = {"inputs": _shaped("inputs", given["inputs"], batch=None, **_width(model))}
        state = _sound_state(model, front, tf.shape(next(iter(given.values())))[0], state)
        own, before = {name: state[name] for name in model.state}, {}
        if stepped:
            before = {name: v for name, v in state.items() if name not in own}
            inputs, before = stepped(before, **given)
        else:
            inputs = given["inputs"]
        y, own = model.step(_required(inputs, _sound(model, inputs)), own)
        return {**answered(y), **before, **own}

    def score(given, targets, weights=None):
        inputs, valid = prepared(given)
        return {"loss": model.score(inputs, valid, *_targets(model, valid, targets, weights))}

    found = {serving_default: [raw]}
    if model.streams is None:
        found |= {initial_state: [tf.TensorSpec([], tf.int32, "batch")],
                  step: [steps, state_of(model, front)]}
    if model.loss is not None:
        row = [None] * model.sequences
        target = ([], tf.int32) if model.classes else ([None], tf.float32)
        found[score] = [raw, tf.TensorSpec([None, *row, *target[0]], target[1], "targets"),
                        *[tf.TensorSpec([None, None], tf.float32, "weights")] * model.sequences]
    return _functions(found)


def inputs_of(model, front=None):
    """What `serving_default` takes, a `tf.TensorSpec` by name."""
    if front:
        return _named(front.signature)
    # Widths are left to the checks: TensorFlow refuses an array of another, but not a tensor.
    return _named({"inputs": tf.TensorSpec([None, None, *_row(model)], _dtype(model)),
                   "lengths": tf.TensorSpec([None], tf.int32)})


def step_inputs_of(model, front=None):
    """What `step` takes beside the state."""
    if getattr(front, "step", None):
        return _named(front.step_signature)
    return _named({"inputs": tf.TensorSpec([None, *_row(model)], _dtype(model))})


def state_of(model, front=None):
    """What a stream keeps, `{}` where the model has none."""
    if model.streams is not None or not getattr(front, "step", None):
        return model.state
    own = {name: tf.TensorSpec([None, *v.shape[1:]], v.dtype, name) for name, v in front.first(1).items()}
    return {**own, **model.state}


def lite_signatures(model):
    """The same for TensorFlow Lite: one sequence or stream at a time, bare inputs and outputs, unchecked."""
    row, dtype = ([], tf.int32) if model.vocabulary else ([model.features], tf.float32)
    state = {name: tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, name)
             for name, spec in model.state.items() if name != "model"}

    def serving_default(inputs):
        return {"outputs": model.whole(inputs, every(inputs))[0]}

    def initial_state():
        return {name: v for name, v in model.first(1).items() if name in state}

    def step(inputs, state):
        outputs, state = model.step(inputs, state)
        return {"outputs": outputs, **state}

    found = {serving_default: [tf.TensorSpec([1, None, *row], dtype, "inputs")]}
    if model.streams is None:
        found |= {initial_state: [], step: [tf.TensorSpec([1, *row], dtype, "inputs"), state]}
    return _functions(found)


def _row(model):
    return [] if model.vocabulary else [None]


def _dtype(model):
    return tf.int32 if model.vocabulary else tf.float32


def _named(specs):
    return {name: tf.TensorSpec(spec.shape, spec.dtype, name) for name, spec in specs.items()}


def _functions(specs):
    return {f.__name__: tf.function(f, given, autograph=False) for f, given in specs.items()}


def _sequences(model, inputs, lengths):
    """The inputs, checked, zero where they do not count, and where they do, bool `[B, T]`."""
    inputs = _shaped("inputs", inputs, batch=None, steps=None, **_width(model))
    batch, steps = tf.unstack(tf.shape(inputs)[:2])
    lengths = _shaped("lengths", lengths, batch=batch)
    lengths = _required(lengths, ((lengths >= 1) & (lengths <= steps),
                                  "lengths: must be from 1 to the steps of inputs", lengths))
    valid = tf.sequence_mask(lengths, steps)
    return _prepared(model, inputs, valid)


def _prepared(model, inputs, valid):
    """The inputs, zero where they do not count, and where they do."""
    inputs = _where(valid, inputs)
    some = tf.reduce_any(valid, 1), "inputs: a sequence has no step that counts"
    return _required(inputs, some, _sound(model, inputs)), valid


def _sound_state(model, front, rows, state):
    """The state of so many streams: of this model, each tensor of its shape, and of finite numbers."""
    state = {name: _shaped(name, state[name], batch=None, **{f"axis {n}": size for n, size in enumerate(
        spec.shape[1:], 1)}) for name, spec in state_of(model, front).items()}
    found = tf.stack([tf.shape(v)[0] for v in state.values()])
    finite = [(tf.math.is_finite(v), f"{name}: must be finite numbers")
              for name, v in state.items() if v.dtype.is_floating]
    return _required(
        state, (found == rows, "state: must have as many rows as inputs", found), *finite,
        (state["model"] == model.fingerprint, "model: the state is of another model; begin anew with the "
         "initial_state of this one", state["model"]))


def _targets(model, valid, targets, weights):
    """The targets and weights, zero where the steps do not count."""
    batch, steps = tf.unstack(tf.shape(valid))
    sizes = {"batch": batch, "steps": steps} if model.sequences else {"batch": batch}
    targets = _shaped("targets", targets, **sizes, **({} if model.classes else {"outputs": model.outputs}))
    if model.sequences:
        targets, weights = _where(valid, targets), _where(valid, _shaped("weights", weights, **sizes))
        weights = _required(weights, (tf.math.is_finite(weights), "weights: must be finite numbers"))
    if model.classes:
        sound = ((targets >= 0) & (targets < model.outputs),
                 f"targets: must be classes from 0 to {model.outputs - 1}",
                 tf.reduce_min(targets), tf.reduce_max(targets))
    else:
        sound = tf.math.is_finite(targets), "targets: must be finite numbers"
    return _required(targets, sound), weights


def _width(model):
    return {} if model.vocabulary else {"features": model.features}


def _sound(model, inputs):
    """The condition that inputs are tokens, or numbers."""
    if model.vocabulary is None:
        return tf.math.is_finite(inputs), "inputs: must be finite numbers"
    return ((inputs >= 0) & (inputs < model.vocabulary),
            f"inputs: tokens must be from 0 to {model.vocabulary - 1}",
            tf.reduce_min(inputs), tf.reduce_max(inputs))


def _required(value, *conditions):
    """The value, where all conditions `(holds, message, *what is there instead)` are met."""
    checks = [tf.debugging.Assert(tf.reduce_all(holds), [message, *found])
              for holds, message, *found in conditions]
    with tf.control_dependencies(checks):
        return tf.nest.map_structure(tf.identity, value)


def _shaped(name, value, **sizes):
    """The value, whose axes must have these sizes, None for any: of a tensor TensorFlow checks none."""
    # The shape in a signature counts as known and would not be looked at; a placeholder's does not.
    found = tf.shape(tf.compat.v1.placeholder_with_default(value, tf.TensorShape(None)))
    axes = tf.concat([found, tf.fill([len(sizes)], -1)], 0)[:len(sizes)]
    wanted = tf.stack([axes[i] if size is None else size for i, size in enumerate(sizes.values())]
                      ) if sizes else axes
    known = [size if isinstance(size, int) else None for size in sizes.values()]
    shape = ", ".join(str(size or axis) for axis, size in zip(sizes, known, strict=True))
    value = _required(value, ((tf.size(found) == len(sizes)) & tf.reduce_all(axes == wanted),
                              f"{name}: shape must be ({shape})", found))
    return tf.ensure_shape(value, known)


def _where(valid, x):
    """x `[B, T, ...]`, zero where valid `[B, T]` is False."""
    return tf.where(valid[(..., *[None] * (x.shape.rank - 2))], x, tf.zeros([], x.dtype))
