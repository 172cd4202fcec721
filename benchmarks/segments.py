"""Are learned segments segments? SANTM's boundaries against known ones, and against boundaries at equal gaps.

`python -m benchmarks.segments --data_dir=../shared/data` trains into `runs/segments/`, where what is there
already is taken as it is; `--only=change_points;chars` trains some, and keeps the other rows of the table.
The data are fsdd.zip and tinyshakespeare.txt. The true boundaries: the first frame of each recording but
the first (`sounds`), a word's last letter or the white space after it (`chars`), the first step of each
level but the first (`change_points`). A large model of `chars` has a row if there is one, made by
`python train.py --flagfile=configs/chars.cfg --data_dir=FILE --workdir=runs/chars`.
"""

import os
import statistics

import numpy as np

from benchmarks import table, trained
from santm_tf import SANTM, Recurrent
from santm_tf.tasks import change_points, corpus, generated, sounds, vocabulary

TASKS = {  # the score on the test split, its data, how far from a true boundary one may be, and the flags
    "change_points": ("mse", None, (0, 2), [
        "--units=32", "--memory_slots=8", "--slot_width=16", "--memory_horizon=8", "--segment_length=10",
        "--boundary_penalty=10", "--access_rate=0.1", "--initial_access_rate=0.1", "--batch_size=32",
        "--epochs=8", "--steps_per_epoch=150", "--learning_rate=0.005"]),
    "sounds": ("accuracy", "fsdd.zip", (-5, 5), [
        "--utterances=4", "--max_length=300", "--units=64", "--memory_slots=16", "--slot_width=16",
        "--memory_horizon=16", "--segment_length=50", "--boundary_penalty=100", "--dropout=0.2",
        "--access_rate=0.1", "--initial_access_rate=0.1", "--batch_size=32", "--epochs=10",
        "--learning_rate=0.005"]),
    "chars": ("bits_per_character", "tinyshakespeare.txt", (-1, 0), [
        "--units=96", "--embedding=32", "--memory_slots=16", "--slot_width=16", "--locality=2",
        "--segment_length=5", "--window=125", "--mask=uniform", "--access_rate=0.05", "--batch_size=64",
        "--epochs=4", "--learning_rate=0.005"]),
}
KINDS = ("change", "learned", "fixed")
MEASURED = {"score": "test", "rate": "boundary rate", "precision": "precision", "recall": "recall",
            "chance_precision": "precision by chance", "chance_recall": "recall by chance"}
COLUMNS = {"metric": "metric", **MEASURED, "time": "seconds a step, to fixed"}
JOINED, ROWS = 4, 64  # recordings in a sequence; rows that a text is cut into
LARGE = "runs/chars"


def near(at, within):
    """To how many of the steps `at` each step is near.

    Args:
      at: bool `[B, T]`.
      within: `(first, last)`: step t is near s where `first <= t - s <= last`.

    Returns:
      int `[B, T]`.

    >>> near([[False, True, False, False, True]], (-1, 2)).tolist()
    [[1, 1, 1, 2, 1]]
    """
    at = np.asarray(at)
    t = np.arange(at.shape[1])
    distance = t - t[:, None]
    return at.astype(int) @ ((within[0] <= distance) & (distance <= within[1])).astype(int)


def agreement(cuts, true, valid, within):
    """How well boundaries agree with the true ones, and how well boundaries at random steps would.

    `precision`: the share of boundaries that are near a true one. By chance: the share of steps that are.
    `recall`: the share of true ones that a boundary is near. By chance: `1 - (1 - rate)^n`, n being the
    steps that are near the true one, at each of which there is a boundary with probability `rate`.

    Args:
      cuts, true, valid: bool `[B, T]`; what is not valid is padding and counts for nothing.
      within: steps between a boundary and a true one, see `near`.

    Returns:
      `{"rate", "precision", "recall", "chance_precision", "chance_recall"}`.

    >>> step = np.arange(6)[None]
    >>> agreement(step % 3 == 2, step == 4, step >= 0, (0, 1))["precision"]
    0.5
    """
    cuts, true = cuts & valid, true & valid
    back = -within[1], -within[0]
    rate, allowed = cuts.sum() / valid.sum(), near(true, within) > 0
    shares = {"rate": rate, "precision": allowed[cuts].mean() if cuts.any() else 0.0,
              "recall": (near(cuts, back) > 0)[true].mean(), "chance_precision": allowed[valid].mean(),
              "chance_recall": (1 - (1 - rate) ** near(valid, back)[true]).mean()}
    return {name: float(share) for name, share in shares.items()}


def cuts(model, x):
    """The steps, bool `[B, T]`, at which a model's SANTM ends a segment of x."""
    place, layer = next((n, layer) for n, layer in enumerate(model.layers) if isinstance(layer, SANTM))
    for earlier in model.layers[:place]:
        x = earlier(x)
    _, beta = Recurrent(layer.bottom, jit_compile=True, return_sequences=True)(layer.levels.bottom_inputs(x))
    return beta.numpy()[..., 0] > 0


def sample(task, data):
    """Test sequences of a task, where their true boundaries are, and which steps are no padding."""
    return {"change_points": _levels, "sounds": _recordings, "chars": _text}[task](data)


def _levels(_):
    x, _, changes = change_points.sequences(generated.SEQUENCES, 100, [0, generated.TEST])
    return x.numpy(), changes.numpy(), np.ones(x.shape[:2], bool)


def _recordings(path):
    """Recordings of one speaker joined as in the task, with the joints."""
    single = sounds.load(batch_size=32, seed=0, data_dir=path, utterances=1).test
    x, y = (np.concatenate(part) for part in zip(*single.as_numpy_iterator(), strict=True))
    sequences = []
    for own in (np.flatnonzero(y == n) for n in np.unique(y)):
        for group in own[:len(own) // JOINED * JOINED].reshape(-1, JOINED):
            sequences.append([row[(row != sounds.PADDING).any(-1)] for row in x[group]])
    longest = max(sum(map(len, sequence)) for sequence in sequences)
    x = np.full([len(sequences), longest, sounds.MELS], sounds.PADDING, np.float32)
    joints = np.zeros(x.shape[:2], bool)
    for row, joint, sequence in zip(x, joints, sequences, strict=True):
        row[:sum(map(len, sequence))] = np.concatenate(sequence)
        joint[np.cumsum([len(recording) for recording in sequence[:-1]])] = True
    return x, joints, x[..., 0] != sounds.PADDING


def _text(path):
    """The test split as a few long rows of ids, with the white space."""
    train, _, test = (np.frombuffer(b"".join(corpus.pieces(part)), np.uint8)
                      for part in corpus.parts(path, at_words=False))
    ids = vocabulary.ids(np.bincount(train, minlength=256), size=257)
    text = test[:len(test) // ROWS * ROWS].reshape(ROWS, -1)
    white = np.isin(text, np.frombuffer(b"".join(corpus.SPACES), np.uint8))
    return ids[text], white, np.ones_like(white)


def measured(task, kind, seed, data_dir):
    """One run: its test score, how its boundaries agree with the true ones, the seconds of an epoch."""
    metric, file, _, flags = TASKS[task]
    data = os.path.join(data_dir, file) if file else None
    if kind == "fixed":  # which no loss moves
        flags = [flag for flag in flags if not flag.startswith("--boundary_penalty")]
    workdir = f"runs/segments/{task}-{kind}-{seed}"
    line = trained.result(None, workdir, f"--task={task}", *flags, f"--boundaries={kind}", f"--seed={seed}",
                          *([f"--data_dir={data}"] if data else []))
    return {"score": line[f"test_{metric}"], **compared(task, workdir, data),
            "seconds": statistics.median(trained.curve(workdir, "seconds"))}


def compared(task, workdir, data):
    """How the boundaries of a run's model agree with the true ones."""
    _, model = trained.load(workdir, *([f"--data_dir={data}"] if data else []))
    x, true, valid = sample(task, data)
    return agreement(cuts(model, x), true, valid, TASKS[task][2])


def rows(task, seeds, data_dir):
    """The rows of a task. Runs that are compared in time follow each other."""
    runs = [{kind: measured(task, kind, seed, data_dir) for kind in KINDS} for seed in range(seeds)]
    return {f"{task}, {kind}": {
        **row(task, [run[kind] for run in runs]),
        "time": trained.spread([run[kind]["seconds"] / run["fixed"]["seconds"] for run in runs])}
        for kind in KINDS}


def row(task, runs):
    return {"metric": TASKS[task][0].replace("_", " "),
            **{name: trained.spread([run[name] for run in runs]) for name in MEASURED}, "runs": runs}


def large(data_dir):
    """The row of the large model of `chars`, if that is there."""
    metric, file, *_ = TASKS["chars"]
    result = trained.metrics(LARGE).get("result") if os.path.exists(LARGE) else None
    if result is None:
        return {}
    score = result[f"test_{metric}"]
    agreed = compared("chars", LARGE, os.path.join(data_dir, file))
    return {"chars, learned, large, one seed": row("chars", [{"score": score, **agreed}])}


def main():
    options = trained.options("segments", TASKS, ("../shared/data", "folder of the files named above"))
    for task in options.only:
        made = rows(task, options.seeds, options.data_dir)
        if task == "chars":
            made.update(large(options.data_dir))
        table.write("segments", f"Boundaries against true ones; mean ± deviation over {options.seeds} seeds. "
                    "For mse and bits per character less is better.", "task",
                    {**table.read("segments"), **made}, COLUMNS)


if __name__ == "__main__":
    main()
