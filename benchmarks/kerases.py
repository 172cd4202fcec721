"""A train step under Keras 3 and Keras 2, and of a model that is itself compiled by XLA.

`python -m benchmarks.kerases`: the model, data and step of `benchmarks.step` at access rate 0.5. In "the
model compiled" the whole step is one XLA program (`model.compile(jit_compile=True)`), of which the layer is a
part; elsewhere the layer compiles itself.
"""

import os

from benchmarks import harness, step


def under(keras_2, model_compiled=False):
    """A case: one step of `fit` under one Keras, which is chosen before TensorFlow is imported."""
    def case():
        if keras_2:
            os.environ["TF_USE_LEGACY_KERAS"] = "1"
        else:
            os.environ.pop("TF_USE_LEGACY_KERAS", None)
        model, _, data = step.model_and_data(access_rate=0.5)
        model.compile(model.optimizer, model.loss, jit_compile=model_compiled)
        data = iter(data)
        model.make_train_function()
        train = model.train_function
        return lambda: train(data), {"parameters": model.count_params()}

    return case


CASES = {"Keras 3": under(False), "Keras 2": under(True),
         "Keras 3, the model compiled": under(False, model_compiled=True),
         "Keras 2, the model compiled": under(True, model_compiled=True)}

if __name__ == "__main__":
    harness.main("kerases", CASES, lambda case: "Keras 2" if case == "Keras 3" else case.split(",")[0],
                 bases="Keras 2, and the same Keras")
