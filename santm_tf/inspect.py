"""What a trained SANTM did with one sequence: `python -m santm_tf.inspect --workdir=runs/a --input=x.npy`."""

from santm_tf.programs import run

if __name__ == "__main__":
    run("training.inspect_run")
