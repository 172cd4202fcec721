"""What TensorBoard's callback costs a run: in a train step, at an epoch's end, and when views are drawn.

`python -m benchmarks.board --repeats=30`: SANTM on the digits by `configs/digits.cfg`, at its last access
rate from the start, so that nothing is compiled twice. Three models train side by side in one process, an
epoch each in turn: two without the callback, which tell how far the machine can be trusted, and one with it.
Ratios are medians over the epochs, and those over fresh processes. A step is taken within an epoch, from its
first one's end to its last one's. An epoch's end comes once in 39 steps here; drawing is held to 1 % of the
time, beside the first and the last.
"""

import json
import statistics
import tempfile
import time

from benchmarks import harness, table

RUN = "--flagfile=configs/digits.cfg", "--initial_access_rate=0.375"
COLUMNS = {"ratio": "a step", "least": "least", "most": "most",
           "end": "an epoch's end, in steps", "drawing": "drawing once, in steps"}


def measured(epochs):
    """The ratios to a step without the callback, and what an epoch's end and what drawing takes of them."""
    import santm_tf  # noqa: F401, I001  (first: it chooses Keras 2)
    import tensorflow as tf

    from santm_tf.training import board, callbacks, flags, models
    from santm_tf.training.resolve import resolve
    from santm_tf.training.run import load_task
    from santm_tf.training.workdir import Workdir

    class Timed(board.Board):
        """A board that draws nothing unasked, and notes how long its epochs' ends take."""

        ends = []

        def on_epoch_end(self, epoch, logs=None):
            began = time.perf_counter()
            super().on_epoch_end(epoch, logs)
            self.ends.append(time.perf_counter() - began)

        def _draw(self):
            self.cost = 0.0

    class Clock(tf.keras.callbacks.Callback):
        """When the steps of the last epoch ended."""

        def on_epoch_begin(self, epoch, logs=None):
            self.ended = []

        def on_train_batch_end(self, batch, logs=None):
            self.ended.append(time.perf_counter())

    def trainer(task, *more):
        """Function that trains for an epoch more and gives the seconds of a step."""
        tf.keras.utils.set_random_seed(0)
        model, clock = models.compiled(config, task), Clock()
        watch = [clock, callbacks.StopWhenNotFinite(lambda: None), *more]

        def epoch(n):
            model.fit(task.train, initial_epoch=n, epochs=n + 1, callbacks=watch, verbose=0)
            return (clock.ended[-1] - clock.ended[0]) / (len(clock.ended) - 1)

        return epoch

    with tempfile.TemporaryDirectory() as folder:
        config = flags.parse(["benchmarks.board", *RUN, f"--workdir={folder}"])
        task = load_task(config)
        config = resolve(config, task)
        watch = Timed(config, Workdir(folder), task, (1 + epochs) * task.steps_per_epoch)
        trainers = {"without": trainer(task), "again": trainer(task), "with": trainer(task, watch)}
        seconds = []
        for n in range(1 + epochs):
            order = list(trainers)[n % 3:] + list(trainers)[:n % 3]  # each comes first in its turn
            seconds.append({case: trainers[case](n) for case in order})
        drawing = harness.measure(lambda: board.Board._draw(watch), 3, warmup=1)
    del seconds[0]  # it compiles
    step = statistics.median(found["without"] for found in seconds)
    ratios = {case: statistics.median(found[case] / found["without"] for found in seconds)
              for case in ("again", "with")}
    return {**ratios, "end": statistics.median(watch.ends[1:]) / step, "drawing": drawing / step}


def main():
    chosen = harness.options("board", ["digits"])
    if chosen.case:
        print(json.dumps(measured(chosen.repeats)))
        return
    found = [harness.fresh("board", "digits", chosen.repeats) for _ in range(chosen.rounds)]
    rows = {}
    for case, label in {"again": "without, once more", "with": "with"}.items():
        ratios = [one[case] for one in found]
        rows[label] = {"ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios)}
    for key in ("end", "drawing"):
        rows["with"][key] = statistics.median(one[key] for one in found)
    table.write("board", "SANTM on the digits with TensorBoard's callback: ratios to *without*, medians over "
                f"{chosen.rounds} fresh processes of {chosen.repeats} epochs.", "callback", rows, COLUMNS,
                table.rounded)


if __name__ == "__main__":
    main()
