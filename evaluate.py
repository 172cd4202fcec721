"""Scores the best checkpoint of a run on its task's test split: `evaluate.py --workdir=runs/first`."""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import santm_tf  # noqa: E402, I001  (first: it chooses Keras 2)
import tasks  # noqa: E402
from training import callbacks, flags, models  # noqa: E402
from training.dynamic import dynamic_evaluation  # noqa: E402
from training.workdir import Workdir, best_weights, restore  # noqa: E402

FLAGS = flags.FLAGS


def load_task():
    """The task that the flags name."""
    try:
        task = tasks.load(FLAGS.task, batch_size=FLAGS.batch_size, seed=FLAGS.seed,
                          data_dir=FLAGS.data_dir, **flags.task_options())
    except tasks.TaskError as error:
        raise flags.UsageError(str(error)) from error
    if FLAGS.dynamic_rate and not task.stateful:
        raise flags.UsageError(f"--dynamic_rate: --task={task.name} is no language model; leave it out")
    return task


def results(task, model, epochs):
    """The figures of a trained model on the test split, as the last line on standard output."""
    masks = [layer for layer in model.submodules if isinstance(layer, santm_tf.AccessMask)]
    for mask in masks:
        mask.fit_plan()
    model.make_test_function(force=True)
    scores = model.evaluate(task.test, verbose=0, return_dict=True,
                            callbacks=[callbacks.StartSequences()])
    rate = float(masks[0].rate) if masks else 1.0
    if FLAGS.dynamic_rate:
        scores |= {f"dynamic_{name}": value for name, value in dynamic_scores(model).items()}
    return {"task": FLAGS.task, "model": FLAGS.model, "seed": FLAGS.seed, "epochs": len(epochs),
            "seconds": round(sum(epoch["seconds"] for epoch in epochs), 1),
            "parameters": models.parameters(model), "access_rate": rate,
            **{f"test_{name}": value for name, value in scores.items() if name != "access_rate"}}


def dynamic_scores(model):
    """The scores of a copy of the model that goes on learning from the test split, read as one text."""
    FLAGS.batch_size = 1
    task = load_task()
    copy = models.compiled(task)
    for own, learned in zip(copy.weights, model.weights, strict=True):
        if own.shape == learned.shape:  # all but the states
            own.assign(learned)
    metric = task.weighted_metrics[0].name
    return {metric: dynamic_evaluation(copy, task.test, FLAGS.dynamic_rate)[metric]}


def load_run():
    """The work directory that the flags name, its task, and its model with the best weights."""
    workdir = Workdir(FLAGS.workdir)
    workdir.check(groups=(flags.MODEL,))
    task = load_task()
    model = models.compiled(task)
    restore(best_weights(workdir, model), workdir)
    return workdir, task, model


def main():
    workdir, task, model = load_run()
    print(json.dumps(results(task, model, workdir.read_metrics()["epochs"])))


def with_saved_flags(argv):
    """The command line with the run's own flag file before it, so that what is given overrides."""
    given = [a.split("=", 1)[1] for a in argv if a.startswith(("--workdir=", "-workdir="))]
    given += [b for a, b in zip(argv, argv[1:], strict=False) if a in ("--workdir", "-workdir")]
    if given and os.path.exists(os.path.join(given[-1], "flags.cfg")):
        return [argv[0], f"--flagfile={os.path.join(given[-1], 'flags.cfg')}", *argv[1:]]
    return argv


if __name__ == "__main__":
    flags.run(main, with_saved_flags(sys.argv))
