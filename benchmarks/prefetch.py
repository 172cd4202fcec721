"""What the plan saves: a train step and an inference against the access rate, down to 0.05.

`python -m benchmarks.prefetch`: the model of `benchmarks.step`; the mask is uniform and fixed, so the
plan is as long as the mask has steps. Ratios are to the same at access rate 1; the bound of what a plan
can save is 1/rate.
"""

from benchmarks import harness
from benchmarks.step import model_and_data, train_step

RATES = (1.0, 0.5, 0.25, 0.1, 0.05)


def inference(**options):
    """A case: one batch through the model with its mask frozen."""
    def case():
        model, layer, data = model_and_data(**options)
        data = iter(data.map(lambda x, y: (x,)))
        model.make_predict_function()
        predict = model.predict_function

        def step():
            predict(data).numpy()

        return step, {"parameters": model.count_params(), "access_rate": float(layer.access.rate)}

    return case


CASES = {f"{kind}, rate {rate:g}": make(access_rate=rate, access="uniform")
         for kind, make in (("train", train_step), ("inference", inference)) for rate in RATES}

if __name__ == "__main__":
    harness.main("prefetch", CASES, lambda case: f"{case.split(',')[0]}, rate 1")
