"""Scores the best checkpoint of a run on its task's test split: `evaluate.py --workdir=runs/first`."""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import santm_tf  # noqa: E402, I001  (first: it chooses Keras 2)
from training import callbacks, flags, models  # noqa: E402
from training.dynamic import dynamic_evaluation  # noqa: E402
from training.run import check_export, exported, load_run, load_task, with_saved_flags  # noqa: E402

FLAGS = flags.FLAGS


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
    batch_size, FLAGS.batch_size = FLAGS.batch_size, 1
    task = load_task()
    copy = models.compiled(task)
    FLAGS.batch_size = batch_size
    for own, learned in zip(copy.weights, model.weights, strict=True):
        if own.shape == learned.shape:  # all but the states
            own.assign(learned)
    metric = task.weighted_metrics[0].name
    return {metric: dynamic_evaluation(copy, task.test, FLAGS.dynamic_rate)[metric]}


def main():
    for name in ("dry_run", "resume", "profile_steps"):
        if FLAGS[name].value:
            raise flags.UsageError(f"--{name}: is for train.py alone; leave it out")
    paths = [FLAGS.workdir] if os.path.isdir(FLAGS.workdir) else FLAGS.workdir.split(",")
    if len(paths) > 1:
        print(json.dumps(compare(paths)))
        return
    check_export()
    workdir, task, model = load_run()
    epochs = workdir.read_metrics()["epochs"]
    result = results(task, model, epochs)
    if FLAGS.export_dir:
        exported(model)
    tell(workdir, task, model, epochs, result)


def tell(workdir, task, model, epochs, result):
    """Ends a program: the report, if asked for, and the figures as the last line."""
    if FLAGS.plots:
        from training import report  # on demand: matplotlib takes a while to import

        print(f"see {report.write(workdir, task, model, epochs, result)}", file=sys.stderr)
    print(json.dumps(result))


def compare(paths):
    """The figures of several runs by group, after writing their comparison."""
    if not FLAGS.plots:
        raise flags.UsageError(f"--workdir={FLAGS.workdir}: several runs are compared with --plots; add it, "
                               "or name one folder")
    from training import comparison

    where, figures = comparison.write(paths)
    print(f"see {where}", file=sys.stderr)
    return figures


if __name__ == "__main__":
    flags.run(main, with_saved_flags(sys.argv))
