"""A run's time until its first train step is done, as JSON: run by `benchmarks.first_step`, in any checkout.

It imports nothing of the benchmarks, as it runs where another checkout has its own. What TensorFlow logs on
standard error tells XLA's share of the time.
"""

import contextlib
import importlib
import json
import os
import resource
import sys
import time


def main():
    times = [time.perf_counter()]
    package = sys.argv.pop(1)  # where that checkout has its training
    config = importlib.import_module(f"{package}.flags").parse(sys.argv)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(ModuleNotFoundError):
            cache = importlib.import_module(f"{package}.cache")
            stack.enter_context(cache.kept_programs(config.session.compile_cache))
        fit = importlib.import_module(f"{package}.fit")
        times.append(time.perf_counter())

        class Bar(fit.callbacks.ProgressBar):
            """The first of the callbacks."""

            def on_train_batch_begin(self, batch, logs=None):
                times.append(time.perf_counter())

            def on_train_batch_end(self, batch, logs=None):
                times.append(time.perf_counter())
                peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
                imports, building, step = (b - a for a, b in zip(times, times[1:], strict=False))
                print(json.dumps({"seconds": times[-1] - times[0], "imports": imports, "building": building,
                                  "step": step, "peak_mib": round(peak)}), flush=True)
                os._exit(0)

        fit.callbacks.ProgressBar = Bar
        fit.train(config)


if __name__ == "__main__":
    main()
