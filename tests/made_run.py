"""A run as train.py leaves it, but for the training."""

from santm_tf.training import flags
from santm_tf.training.checkpoints import best_weights
from santm_tf.training.models import compiled
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task
from santm_tf.training.workdir import Workdir

TINY = ["--units=4", "--nojit_compile", "--batch_size=320"]
SMALL = ["--memory_slots=8", "--slot_width=4", "--attention_heads=2", "--locality=2", "--access_rate=0.25",
         "--initial_access_rate=0.25"]  # a santm


def make(folder, *argv):
    """Makes a work directory of a model that learned nothing; returns its path, its task and the model."""
    config = flags.parse(["run", f"--workdir={folder}", *TINY, *SMALL * ("--model=lstm" not in argv), *argv])
    task = load_task(config)
    config = resolve(config, task)
    model = compiled(config, task)
    workdir = Workdir(str(folder))
    workdir.open(config)
    workdir.keep(task)
    best_weights(workdir, model).save()
    epochs = [{"epoch": n, "seconds": 1.0, "loss": 1 / n, "val_loss": 2 / n} for n in (1, 2, 3)]
    workdir.write_metrics({"epochs": epochs})
    return str(folder), task, model
