"""What a trained SANTM did with one sequence: `python -m santm_tf.inspect --workdir=runs/a --input=x.npy`."""

if __name__ == "__main__":
    from santm_tf.training.commands import inspect  # here: the library knows nothing of what is built on it

    inspect()
