"""`python -m santm_tf.export --workdir=runs/digits --export_dir=FOLDER` exports a run's best weights."""

from santm_tf.programs import run

if __name__ == "__main__":
    run("training.export_run")
