"""Which Keras TensorFlow has, and all in which the two differ.

Keras 3 is TensorFlow's default. Keras 2 is `tf_keras`, where `TF_USE_LEGACY_KERAS=1` is in the environment.
No other file asks which of them it is.

Raises:
  ImportError: in one line, where Keras 3 runs on another backend than TensorFlow, or Keras 2 is asked for and
    is not installed.

>>> import tensorflow as tf
>>> from santm_tf.keras import keras
>>> keras.Model is tf.keras.Model
True
"""

import tensorflow as tf

from santm_tf.errors import ArgumentError, extra
from santm_tf.masks import mask_of

try:
    VERSION = 2 if tf.keras.Model.__module__.startswith("tf_keras") else 3
except ImportError:
    with extra("keras2"):
        import tf_keras  # noqa: F401
    raise

if VERSION == 2:
    import tf_keras as keras
else:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ImportError(f"santm_tf needs Keras' TensorFlow backend, not {keras.backend.backend()!r}: "
                          "set KERAS_BACKEND=tensorflow")

register = keras.saving.register_keras_serializable("santm_tf")
READS_FOLDERS = VERSION == 2  # whole models saved as SavedModels
TRAINS_TOGETHER = VERSION == 3  # a model's parts as `training.shared_model` needs them


def is_ours(version):
    """Whether a file that says "2.16.0", say, was saved by the Keras in use."""
    return version.split(".")[0] == str(VERSION)


def converted(config):
    """The configuration of a model that the other Keras saved: Keras 3 gets one that it can read.

    Keras 2 gets what it is given. It cannot read how Keras 3 says which layers are joined.
    """
    if VERSION == 2:
        return config
    if isinstance(config, list):
        return [converted(part) for part in config]
    if not isinstance(config, dict):
        return config
    if config.get("class_name") == "Policy":
        return config["config"]["name"]
    if config.get("class_name") == "Functional":
        inside = {**config["config"]}
        for ends in "input_layers", "output_layers":
            if isinstance(inside[ends], list) and len(inside[ends]) == 1:
                inside[ends], = inside[ends]  # one tensor, and not a list of one
        config = {**config, "module": "keras", "class_name": "Model", "registered_name": None,
                  "config": inside}
    return {name: converted(part) for name, part in config.items()
            if (name, part) != ("time_major", False) and name != "rng_type"}  # of how a Dropout draws


class _Reported(keras.metrics.Mean):
    """A mean that is not saved with the weights, as Keras 2 would save it and Keras 3 would not."""

    def save_own_variables(self, store):
        pass

    load_own_variables = save_own_variables


class Layer(keras.layers.Layer):
    """A Keras layer that can report figures, and keep a state that is no weight.

    >>> class Doubled(Layer):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.reports("largest")
    ...     def call(self, x):
    ...         self.report(largest=tf.reduce_max(x))
    ...         return 2 * x
    >>> Doubled()(tf.ones([1])).numpy().tolist()
    [2.0]
    """

    if VERSION == 2:
        def add_weight(self, *args, autocast=True, **kwargs):
            return super().add_weight(*args, experimental_autocast=autocast, **kwargs)

    def reports(self, *names):
        """Names the figures that `report` will give; in `__init__`."""
        means = {name: _Reported(name=name) for name in names}
        if VERSION == 2:
            self._metrics.extend(means.values())  # where `add_metric` finds them
        else:
            self._reported = means

    def report(self, **figures):
        """Has the model that this layer is in log the means of some figures over an epoch."""
        for name, value in figures.items():
            if VERSION == 2:
                self.add_metric(value, name=name)
            else:
                self._reported[name].update_state(value)

    def keep(self, name, value, dtype=None):
        """A variable as `self.name`, saved with checkpoints and SavedModels, that is none of the weights."""
        with tf.init_scope():
            variable = tf.Variable(value, trainable=False, dtype=dtype, name=f"{self.name}/{name}")
        object.__setattr__(self, name, variable)  # past Keras, which would count it
        self._track_trackable(variable, name, overwrite=True)


class Cell(Layer):
    """A recurrent cell. Its inputs come in its precision. Its state stays as it is: part of it is float32."""

    if VERSION == 3:
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self._convert_input_args = False

        def __call__(self, inputs, *args, **kwargs):
            def taken(v):
                v = tf.convert_to_tensor(v)
                return tf.cast(v, self.compute_dtype) if v.dtype.is_floating else v

            args = tf.nest.map_structure(lambda v: v if v is None else tf.convert_to_tensor(v), args)
            return super().__call__(tf.nest.map_structure(taken, inputs), *args, **kwargs)


def dropped(cell, inputs, h, training):
    """An LSTM cell's inputs and state h after its dropout: under a mask each, the same at all steps."""
    def by(x, rate, name):
        if not 0 < rate < 1:
            return x
        if VERSION == 2:
            return x * getattr(cell, f"get_{name}_for_cell")(x, training, count=4)[0]
        masks = getattr(cell, f"get_{name}")(x) if training else 1
        return x * (masks[0] if isinstance(masks, list) else masks)

    return (by(inputs, cell.dropout, "dropout_mask"),
            by(h, cell.recurrent_dropout, "recurrent_dropout_mask"))


def output_of(layer, y):
    """A cell's output as the layer around it gives it: Keras 3 has it in the layer's precision."""
    return y if VERSION == 2 else tf.cast(y, layer.compute_dtype)


def shape_of(*sizes):
    """A shape as `compute_output_shape` gives it."""
    return tf.TensorShape(sizes) if VERSION == 2 else tuple(sizes)


def several(*values):
    """A layer's several outputs, or their shapes, as Keras' own layers give them."""
    return list(values) if VERSION == 2 else values


def no_states(count):
    """`layer.states` of a built layer that is not stateful, as Keras' own have it."""
    return [None] * count if VERSION == 2 else None


def reset_states(model: keras.Model) -> None:
    """Has the stateful layers of a model begin new sequences with the next batch."""
    for layer in layers_of(model):
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_states") and layer is not model:
            layer.reset_states()


def layers_of(*roots):
    """The layers of models, layers and cells: themselves, and those inside them, each once."""
    found = {}
    for root in roots:
        if isinstance(root, keras.layers.Layer):
            found.update({id(layer): layer for layer in root._flatten_layers()})
    return list(found.values())


def variable_of(weight):
    """The `tf.Variable` of a layer's weight, for what saves none of Keras' own."""
    return weight if VERSION == 2 else weight.value


def known(variable):
    """What a variable holds, a NumPy array; None while Keras only looks at shapes, or in a graph of its own.

    >>> known(tf.Variable(3))
    np.int32(3)
    """
    with tf.init_scope():
        value = variable if VERSION == 2 or isinstance(variable, tf.Variable) else variable._value
        if value is None or not tf.executing_eagerly() or not value.is_initialized():
            return None
        return value.numpy()


def name_of(weight, model):
    """A weight's name below its model's: `santm/bottom/kernel`."""
    return weight.name.removesuffix(":0") if VERSION == 2 else weight.path.removeprefix(f"{model.name}/")


def draw_from_saved_states():
    """Has layers that are made from here on draw random numbers from `random_states`. Keras 3's always do."""
    if VERSION == 2:
        keras.backend.experimental.enable_tf_random_generator()


def random_states(model):
    """What the random numbers of a model's layers follow from. Keras keeps it out of checkpoints."""
    if VERSION == 2:
        return [layer._random_generator._generator for layer in layers_of(model)
                if hasattr(layer, "_random_generator")]
    return [generator.state for layer in layers_of(model) for generator in layer._seed_generators]


def carried_states(model):
    """The variables, none of them weights, in which stateful layers keep their state from batch to batch."""
    kept = [layer.states for layer in layers_of(model)
            if getattr(layer, "stateful", False) and hasattr(layer, "states")]
    return [variable for variable in tf.nest.flatten(kept) if variable is not None]


def before_updates(optimizer, note):
    """Has an optimiser call `note(gradients)` within each step, before it clips and applies them."""
    name = "apply" if VERSION == 3 else "apply_gradients"
    apply = getattr(optimizer, name)

    def noted(gradients, *args, **kwargs):
        gradients = list(gradients)
        note(gradients if VERSION == 3 else [gradient for gradient, _ in gradients])
        return apply(gradients, *args, **kwargs)

    setattr(optimizer, name, noted)


def last_rate(optimizer):
    """The learning rate of an optimiser's last update."""
    rate, steps = optimizer._learning_rate, optimizer.iterations
    return float(rate(steps - 1) if callable(rate) else rate)


def place_of(optimizer, variable):
    """The index of a variable among those that an optimiser was built for."""
    return optimizer._get_variable_index(variable) if VERSION == 3 else (
        optimizer._index_dict[optimizer._var_key(variable)])


# The method that a ragged tensor comes to: Keras 3's `__call__` hands `call` none, Keras 2 a symbolic one to
# `__call__`.
RAGGED_COMES_TO = "call" if VERSION == 2 else "__call__"


class RNN(keras.layers.RNN):
    """Keras' RNN, its time loop left to `run(inputs, state, mask, training, constants)`.

    Keras 2's takes a nest of inputs and constants, and so does this one under Keras 3, whose own does not.
    """

    def _shapes(self, shape):
        """Whether there are several inputs, and the shape of each."""
        nests = list, tuple, tf.TensorShape
        if isinstance(shape[0], nests) and isinstance(shape[0][0], nests):
            shape = shape[0]  # Keras 2 gives the shapes of the states, too, after those of the inputs
        several = isinstance(shape[0], nests)
        shapes = [tuple(one) for one in (shape if several else [shape])]
        if len(shapes[0]) < 3:
            raise ArgumentError(f"{type(self).__name__}: inputs of shape {shapes[0]} are incompatible with "
                                "the layer: expected ndim=3 or more, [B, T, ...]")
        return several, shapes

    if VERSION == 2:
        def __call__(self, inputs, *args, **kwargs):
            return super().__call__(self._several(inputs), *args, **kwargs)

        def build(self, input_shape):
            self._shapes(input_shape)
            super().build(self._several(input_shape))

        def call(self, inputs, mask=None, training=None, initial_state=None, constants=None):
            inputs, state, constants = self._process_inputs(inputs, initial_state, constants)
            state = tf.nest.map_structure(tf.convert_to_tensor, list(state))  # what it keeps are variables
            return self.run(inputs, state, mask_of(inputs, mask, type(self).__name__), training, constants)

        def get_initial_state(self, inputs):
            """Of the layer's type where the inputs are whole numbers, whose type Keras' own would take."""
            x = tf.nest.flatten(inputs)[0]
            return super().get_initial_state(tf.cast(x, self.compute_dtype) if x.dtype.is_integer else x)

        def _several(self, inputs):
            """A saved model gives a tuple of inputs back as a list, in which RNN would see states."""
            count = getattr(self.cell, "input_count", 1)
            return tuple(inputs) if isinstance(inputs, list) and len(inputs) == count > 1 else inputs
    else:
        time_major = False

        def build(self, sequences_shape):
            several, shapes = self._shapes(sequences_shape)
            shapes = [(shape[0], *shape[2:]) for shape in shapes]
            if isinstance(self.cell, keras.layers.Layer) and not self.cell.built:
                self.cell.build(shapes if several else shapes[0])
                self.cell.built = True
            self.input_spec = [keras.layers.InputSpec(ndim=len(shape) + 1, axes={-1: shape[-1]})
                               for shape in shapes]
            super().build(sequences_shape[0] if several else sequences_shape)  # makes the state that it keeps

        def get_initial_state(self, batch_size):
            if hasattr(self.cell, "get_initial_state"):
                state = self.cell.get_initial_state(batch_size=batch_size)
            else:
                dtype = getattr(self.cell, "compute_dtype", self.compute_dtype)
                state = tf.nest.map_structure(
                    lambda size: tf.zeros([batch_size, *tf.TensorShape(size)], dtype), self.cell.state_size)
            return list(state) if tf.nest.is_nested(state) else [state]

        def call(self, sequences, initial_state=None, mask=None, training=None, constants=None):
            rows = tf.nest.flatten(sequences)[0]
            if self.stateful and rows.shape[0] not in (None, self._expected_batch_size):
                raise ArgumentError(f"{type(self).__name__}: a batch size of {rows.shape[0]}, where "
                                    f"stateful=True keeps the state of {self._expected_batch_size}")
            first = self.get_initial_state(tf.shape(rows)[0])
            if initial_state is None:
                initial_state = self.states if self.stateful else first
            state = initial_state if isinstance(initial_state, (list, tuple)) else [initial_state]
            if len(state) != len(self.state_size):
                raise ArgumentError(f"{type(self).__name__}: initial_state has {len(state)} tensors; the "
                                    f"cell's state has {len(self.state_size)}")
            cast = [tf.cast(v, start.dtype)  # part of it may be float32 under half precision
                    for v, start in zip(*map(tf.nest.flatten, (state, first)), strict=True)]
            state = tf.nest.pack_sequence_as(first, cast)
            mask = mask_of(sequences, mask, type(self).__name__)
            return self.run(sequences, state, mask, training, constants)

        def compute_output_shape(self, sequences_shape):
            batch, steps = self._shapes(sequences_shape)[1][0][:2]
            before = (batch, steps) if self.return_sequences else (batch,)
            size = getattr(self.cell, "output_size", None)
            size = tf.nest.flatten(self.cell.state_size)[0] if size is None else size
            output = tf.nest.map_structure(lambda s: (*before, *tf.TensorShape(s)), size)
            if not self.return_state:
                return output
            return (output, *(tf.nest.map_structure(lambda s: (batch, *tf.TensorShape(s)), size)
                              for size in self.state_size))
