"""Scores the best checkpoint of a run on its task's test split: `evaluate.py --workdir=runs/first`."""

from santm_tf.training.commands import evaluate

if __name__ == "__main__":
    evaluate()
