"""`python -m santm_tf.export --workdir=runs/digits --export_dir=FOLDER` exports a run's best weights."""

from santm_tf.training.commands import export

if __name__ == "__main__":
    export()
