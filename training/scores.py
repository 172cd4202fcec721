"""What a trained model scores on its task's test split: what `evaluate.py` does once its flags are read."""

import dataclasses
import json
import sys

import santm_tf
from santm_tf.keras import layers_of
from santm_tf.training import devices
from santm_tf.training.callbacks import StartSequences
from santm_tf.training.dynamic import dynamic_evaluation
from santm_tf.training.measures import measured
from santm_tf.training.models import compiled, parameters
from santm_tf.training.run import check_places, exported, load, load_task, of_batches
from santm_tf.training.workdir import Workdir


def evaluate(config):
    """Prints the figures of a run's best weights as the last line; exports them if asked for."""
    with devices.started(config) as place, of_batches():
        _evaluate(config, place)


def _evaluate(config, place):
    check_places(config, Workdir(config.session.workdir))
    config, workdir, task, model = load(config, place.share, place.replicas)
    epochs = workdir.read_metrics()["epochs"]
    result = results(config, task, model, epochs, place)
    if not place.chief:
        return
    tell(result)
    finish(config, workdir, task, model, epochs, result)


def results(config, task, model, epochs, place):
    """The figures of a trained model on the test split, as the last line on standard output.

    Of several processes the chief alone has all of them.
    """
    masks = [layer for layer in layers_of(model) if isinstance(layer, santm_tf.AccessMask)]
    before = [mask.plan_size for mask in masks]
    for mask in masks:
        mask.fit_plan()
    if [mask.plan_size for mask in masks] != before:  # else what validation traced serves
        model.make_test_function(force=True)
    test = task.rows(place.share, task.test)
    scores = model.evaluate(test, verbose=0, return_dict=True, callbacks=[StartSequences()])
    if not place.chief:
        return {}
    scores |= measured(task, model)
    rate = float(masks[0].rate) if masks else scores.get("access_rate", 1.0)  # an adaptive one is measured
    if config.run.dynamic_rate:
        scores |= {f"dynamic_{name}": value for name, value in dynamic_scores(config, model).items()}
    return {"task": config.task, "model": config.model, "seed": config.run.seed, "epochs": len(epochs),
            "seconds": round(sum(epoch["seconds"] for epoch in epochs), 1),
            "parameters": parameters(model), "access_rate": rate,
            **{f"test_{name}": scores[name] for name in sorted(scores, key=lambda name: name != "loss")
               if name != "access_rate"}}


def dynamic_scores(config, model):
    """The scores of a copy of the model that goes on learning from the test split, read as one text."""
    config = dataclasses.replace(config, run=dataclasses.replace(config.run, batch_size=1))
    task = load_task(config)
    copy = compiled(config, task)
    copy.set_weights(model.get_weights())
    metric = task.weighted_metrics[0].name
    return {metric: dynamic_evaluation(copy, task.test, config.run.dynamic_rate)[metric]}


def tell(result):
    """Prints the figures, before what else is asked for, which may fail."""
    print(json.dumps(result), flush=True)


def finish(config, workdir, task, model, epochs, result):
    """Writes the export and the report that are asked for; it prints nothing on standard output."""
    if config.session.export_dir:
        exported(config, task, model)
    if config.session.plots:
        from santm_tf.training import report  # on demand: matplotlib takes a while to import

        print(f"see {report.write(config, workdir, task, model, epochs, result)}", file=sys.stderr)
