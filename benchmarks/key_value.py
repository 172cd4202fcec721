"""What a memory of keys and values needs to recall: multi-query associative recall, small.

`python -m benchmarks.key_value` trains each variant with 8 pairs in 32 steps, in a minute. It tests with as
many, and with 64 pairs in 256 steps. `--only=as it is;no gate` trains some and keeps the table's other rows.
"""

import tensorflow as tf

from benchmarks import table, trained
from santm_tf import SANTM, tasks
from santm_tf.keras import keras
from santm_tf.memories import KeyValueMemory
from santm_tf.ops import product
from santm_tf.sparse.key_value import KeyValueMemoryCell

TRAINED = {"pairs": 8, "length": 32, "vocabulary": 256, "steps_per_epoch": 400}
LONGER = {"test_pairs": 64, "test_length": 256, "test_sequences": 64}
UNITS, BATCH, RATE = 32, 16, 0.005
COLUMNS = {"loss": "loss over 400 steps", "short": "8 pairs, 32 steps", "long": "64 pairs, 256 steps"}


class OwnMaps(KeyValueMemoryCell):
    """Rows whose keys are made by a map of their own."""

    def build(self, input_shape):
        self.row_kernel = self.add_weight(name="row_kernel", initializer="glorot_uniform",
                                          shape=[input_shape[0][-1], self.read_heads * self.key_width])
        super().build(input_shape)

    def _rows(self, keys, u):
        keys = tf.math.l2_normalize(self._shaped(product(u, self.row_kernel), self.key_width), -1)
        return super()._rows(tf.pad(keys, [[0, 0], [1, 0], [0, 0], [0, 0]])[:, :-1], u)


class Unshifted(KeyValueMemoryCell):
    """Rows under the key of their own step."""

    def _rows(self, keys, u):
        return super()._rows(self._keys(u), u)


class OfMiddle(KeyValueMemoryCell):
    """Keys of h^m alone."""

    def _keys(self, u):
        return super()._keys(tf.pad(u[..., :self.units], [[0, 0], [0, 0], [0, u.shape[-1] - self.units]]))


class OfBottom(KeyValueMemoryCell):
    """Keys of h alone."""

    def _keys(self, u):
        return super()._keys(tf.pad(u[..., self.units:], [[0, 0], [0, 0], [self.units, 0]]))


class AnyLength(KeyValueMemoryCell):
    """Keys of any length."""

    def _keys(self, u):
        return self._shaped(product(u, self.key_kernel), self.key_width)


class Steady(KeyValueMemoryCell):
    """A temperature that does not know how many rows there are."""

    def _sharpness(self, written, dtype):
        return super()._sharpness(tf.fill(tf.shape(written), 16), dtype)


class Ungated(KeyValueMemoryCell):
    """What is read comes out as it is."""

    def run(self, *args, **options):
        visits, state = super().run(*args, **options)
        return visits._replace(gate=tf.ones_like(visits.gate)), state


class AllAlike(KeyValueMemoryCell):
    """Rows of one strength."""

    def _stored(self, rows):
        keys, strength = super()._stored(rows)
        return keys, tf.zeros_like(strength)


VARIANTS = {  # the cell, and what differs in the layer
    "as it is": (KeyValueMemoryCell, {}), "separate maps to read and to write": (OwnMaps, {}),
    "the key of the row's own step": (Unshifted, {}), "keys of h^m alone": (OfMiddle, {}),
    "keys of h alone": (OfBottom, {}), "keys of any length": (AnyLength, {}),
    "temperature without log n": (Steady, {}), "no gate": (Ungated, {}), "no strength": (AllAlike, {}),
    "k = 1": (KeyValueMemoryCell, {"top_k": 1}), "k = 16": (KeyValueMemoryCell, {"top_k": 16}),
    "recall by attention": (KeyValueMemoryCell, {"recall": "attention"}),
}


def run(cell, options, seed):
    """The mean loss of training, and the accuracies of both lengths."""
    keras.utils.set_random_seed(seed)
    task = tasks.load("mqar", batch_size=BATCH, seed=seed, **TRAINED)
    longer = tasks.load("mqar", batch_size=BATCH, seed=seed, **TRAINED, **LONGER)
    variant = type(cell.__name__, (KeyValueMemory,), {"cell_class": cell})
    sizes = {"memory_slots": 512, "slot_width": UNITS, "top_k": options.get("top_k", 4)}
    layer = SANTM(UNITS, memory=variant(**sizes), recall=options.get("recall", "read"), mask_period=1,
                  segment_length=1, boundaries="fixed", memory_horizon=2, return_sequences=True, seed=seed)
    model = keras.Sequential([keras.Input([None], dtype=tf.int32),
                              keras.layers.Embedding(task.vocabulary, UNITS), layer,
                              keras.layers.Dense(task.outputs)])
    model.compile(keras.optimizers.Adam(RATE, global_clipnorm=1.0), task.loss,
                  weighted_metrics=task.weighted_metrics)
    loss = model.fit(task.train, verbose=0).history["loss"][-1]
    scores = [model.evaluate(split, verbose=0, return_dict=True)["accuracy"]
              for split in (task.test, longer.test)]
    return loss, *scores


def main():
    options = trained.options("key_value", VARIANTS)
    rows = table.read("key_value")
    for name in options.only:
        runs = [run(*VARIANTS[name], seed) for seed in range(options.seeds)]
        rows[name] = dict(zip(COLUMNS, map(trained.spread, zip(*runs, strict=True)), strict=True))
        table.write("key_value", f"Accuracy, mean ± deviation over {options.seeds} seeds.", "variant", rows,
                    COLUMNS)


if __name__ == "__main__":
    main()
