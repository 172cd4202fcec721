"""`python -m santm_tf.export --workdir=runs/digits --export_dir=FOLDER` exports a run's best weights."""

from santm_tf.export.saved_model import main

if __name__ == "__main__":
    main()
