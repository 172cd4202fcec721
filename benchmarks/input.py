"""Train steps per second with a task's data, against the same batch given again and again.

`python -m benchmarks.input`: a ratio of 1 says that input never keeps a step waiting; the goal is 0.95.
A small SANTM, since the shorter the step the harder it is to keep up with. Both ways alternate in one
process, through the function that `model.fit` runs, and the ratio is the median over the pairs. Tasks
with data take them from the folder `--data`.
"""

import argparse
import os
import statistics
import time

from benchmarks import table

CASES = {  # the task's data below --data (None: it has none), and its options
    "digits": (None, {}),
    "copy": (None, {}),
    "text": ("movie_reviews.zip", {}),
    "sounds": ("fsdd.zip", {"utterances": 4, "max_length": 300}),
    "words": ("brown", {}),
    "chars": ("tinyshakespeare.txt", {}),
}
BATCH, UNITS = 32, 16


def loaders():

    from santm_tf import tasks

    return {"digits": tasks.digits.load, "copy": tasks.copy.load, "text": tasks.text.load,
            "sounds": tasks.sounds.load, "words": tasks.language.load_words,
            "chars": tasks.language.load_chars}


def small_model(task):
    """A SANTM of 16 units, a quarter of the steps accessing the memory."""
    import santm_tf  # noqa: I001
    import tensorflow as tf

    tf.keras.utils.set_random_seed(0)
    batch = BATCH if task.stateful else None
    if task.vocabulary is None:
        layers = [tf.keras.Input([task.length, task.features], batch)]
        layers += [tf.keras.layers.Masking(task.padding)] if task.padding is not None else []
    else:
        layers = [tf.keras.Input([task.length], batch, dtype=tf.int32),
                  tf.keras.layers.Embedding(task.vocabulary, UNITS, mask_zero=task.padding is not None)]
    layers += [santm_tf.SANTM(UNITS, memory_slots=16, slot_width=16, access_rate=0.25, mask_period=16,
                              return_sequences=task.return_sequences, stateful=task.stateful),
               tf.keras.layers.Dense(task.outputs)]
    model = tf.keras.Sequential(layers)
    model.compile(tf.keras.optimizers.Adam(1e-4), task.loss)
    return model


def measured(name, folder, pairs, seconds):
    """Steps per second both ways, and their ratio."""
    import tensorflow as tf

    source, options = CASES[name]
    source = source and os.path.join(folder, source)
    task = loaders()[name](batch_size=BATCH, seed=0, data_dir=source, **options)
    model = small_model(task)
    same = tf.data.Dataset.from_tensors(next(iter(task.train)))
    iterators = [iter(data.repeat()) for data in (task.train, same)]  # as fit, but over many epochs
    model.make_train_function()
    train = model.train_function

    def rate(iterator, steps):
        begun = time.perf_counter()
        for _ in range(steps):
            logs = train(iterator)
        float(logs["loss"])  # waits for the last step
        return steps / (time.perf_counter() - begun)

    for iterator in iterators:
        rate(iterator, 3)
    steps = max(5, round(seconds * rate(iterators[1], 5)))
    rates = [[rate(iterator, steps) for iterator in iterators] for _ in range(pairs)]
    return {"ratio": round(statistics.median(data / batch for data, batch in rates), 3),
            "with data": round(statistics.median(data for data, _ in rates), 2),
            "same batch": round(statistics.median(batch for _, batch in rates), 2), "steps": steps}


def main():
    parser = argparse.ArgumentParser(prog="python -m benchmarks.input")
    parser.add_argument("--data", default=os.environ.get("SANTM_DATA", "../shared/data"))
    parser.add_argument("--only", choices=list(CASES), action="append")
    parser.add_argument("--pairs", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each half of a pair, about")
    options = parser.parse_args()
    results = {}
    for name in options.only or CASES:
        results[name] = measured(name, options.data, options.pairs, options.seconds)
        print(name, results[name], flush=True)
    if not options.only:
        columns = ["ratio", "with data", "same batch", "steps"]
        table.write("input",
                    "Train steps per second with a task's data, against the same batch again and again.",
                    "task", results, {column: column for column in columns})


if __name__ == "__main__":
    main()
