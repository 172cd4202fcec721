"""Trains a model on a task: `train.py --task=digits --model=santm --workdir=runs/first`."""

from santm_tf.training.commands import train

if __name__ == "__main__":
    train()
