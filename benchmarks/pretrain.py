"""Trains the models in `pretrained/` over seeds, puts those of seed 0 there, and writes their cards.

`python -m benchmarks.pretrain --data_dir=../shared/data` works in `runs/`, where a run that is there already
is taken as it is; `--only="digits;recall"` trains some, and keeps the other rows of the table. The data are
mnist.npz and fsdd.zip.
"""

import os
import shutil
from typing import NamedTuple

from benchmarks import table, trained
from santm_tf import pretrained
from santm_tf.training.workdir import Workdir

COLUMNS = {"does": "what it does", "metric": "metric", "chance": "chance", "score": "seed 0",
           "spread": "over seeds", "seeds": "seeds", "parameters": "weights", "size": "KiB"}
KEPT = "flags.cfg", "metrics.json", "outline.json"  # beside the best weights


class Model(NamedTuple):
    """What a card says: a model's flag file, score and chance, its data, what it takes and gives."""

    config: str
    metric: str
    chance: float
    does: str
    takes: str
    gives: str
    data: str
    licence: str
    file: str | None = None


MODELS = {
    "digits": Model(
        "digits", "accuracy", 0.1, "names a handwritten digit of 8 x 8 pixels, one pixel a step",
        "float32 `[B, 64, 1]`: pixels row by row, from 0 to 1", "logits `[B, 10]`, of the digits 0 to 9",
        "Optical Recognition of Handwritten Digits (Alpaydin and Kaynak 1998, UCI), from scikit-learn",
        "CC BY 4.0"),
    "mnist": Model(
        "mnist", "accuracy", 0.1,
        "names a handwritten digit of 28 x 28 pixels, one pixel a step, one row a segment",
        "float32 `[B, 784, 1]`: pixels row by row, from 0 to 1", "logits `[B, 10]`, of the digits 0 to 9",
        "MNIST (LeCun, Cortes and Burges 1998), `mnist.npz` of `tf.keras.datasets`", "CC BY-SA 3.0",
        "mnist.npz"),
    "speakers": Model(
        "sounds", "accuracy", 1 / 6, "names the speaker of four spoken digits",
        "float32 `[B, 300, 40]`: 40 log-mels each 10 ms as `--task=sounds` makes them, padded by -100",
        "logits `[B, 6]`, of the classes below",
        "free spoken digit dataset (Jackson et al.), https://github.com/Jakobovski/free-spoken-digit-dataset",
        "CC BY-SA 4.0", "fsdd.zip"),
    "recall": Model(
        "associative_recall-sparse", "wrong_bits", 9.0,
        "recalls the item that followed, by a sparse memory: 32 slots, of which a head takes 4",
        "float32 `[B, T, 8]`: 2 to 6 items of 3 x 6 bits, their delimiters and a query; padded by -1",
        "logits `[B, T, 6]`, of the bits at the last 3 steps",
        "generated: associative recall (Graves et al. 2014, arXiv 1410.5401, section 4.3)", "none needed"),
}


def main():
    chosen = trained.options("pretrain", pretrained.NAMES, data=("../shared/data", "folder of the data"))
    rows = table.read("pretrain")
    for name in chosen.only:
        model = MODELS[name]
        flags = [f"--data_dir={os.path.join(chosen.data_dir, model.file)}"] if model.file else []
        runs = [f"runs/pretrained-{name}-{seed}" for seed in range(chosen.seeds)]
        lines = [trained.result(f"configs/{model.config}.cfg", run, f"--seed={seed}", *flags)
                 for seed, run in enumerate(runs)]
        scores = [line[f"test_{model.metric}"] for line in lines]
        size = taken(runs[0], os.path.join("pretrained", name))
        rows[name] = {**model._asdict(), **lines[0], "metric": model.metric.replace("_", " "),
                      "score": scores[0], "scores": scores,
                      "spread": trained.spread(scores) if chosen.seeds > 1 else "",
                      "seeds": chosen.seeds, "size": round(size / 1024),
                      "classes": Workdir(runs[0]).read_outline().classes}
        with open(os.path.join("pretrained", name, "README.md"), "w") as file:
            file.write(card(name, model, rows[name]))
        table.write("pretrain", "Models in `pretrained/`: scores on the test split of their data; of wrong "
                    "bits, out of 18, fewer are better.", "name",
                    {one: rows[one] for one in pretrained.NAMES if one in rows}, COLUMNS, table.rounded)


def taken(run, folder):
    """Puts what is kept of a run into a folder, without the path of its data; returns how many bytes."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(os.path.join(run, "best"), os.path.join(folder, "best"),
                    ignore=shutil.ignore_patterns("checkpoint"))
    for name in KEPT:
        with open(os.path.join(run, name)) as file:
            lines = [line for line in file if not line.startswith("--data_dir")]
        with open(os.path.join(folder, name), "w") as file:
            file.writelines(lines)
    return sum(os.path.getsize(os.path.join(where, name))
               for where, _, names in os.walk(folder) for name in names)


def card(name, model, row):
    """A model's card, as Markdown."""
    data = f" --data_dir={model.file}" * bool(model.file)
    training = f"train.py --flagfile=configs/{model.config}.cfg --seed=0{data} --workdir=runs/{name}"
    scores = "; ".join(f"{seed}: {score:.3f}" for seed, score in enumerate(row["scores"]))
    together = f"; together {row['spread']}" * bool(row["spread"])
    lines = {
        "takes": model.takes, "gives": model.gives,
        **({"classes": ", ".join(row["classes"])} if row["classes"] else {}),
        f"test {row['metric']}": f"{row['score']:.3f} (chance {model.chance:.3g})",
        "by seed": scores + together,
        "weights": f"{row['parameters']:,}", "access rate": f"{row['access_rate']:.3g}",
        "data": model.data, "licence of the data": model.licence,
        "trained by": f"`{training}`",
        "scored by": f"`evaluate.py --workdir=pretrained/{name}{data}`",
        "loaded by": f'`santm_tf.load_pretrained("{name}")`'}
    return "\n".join([f"# {name}", "", f"A SANTM that {model.does}.", "", "| | |", "| --- | --- |",
                      *(f"| {head} | {text} |" for head, text in lines.items()), ""])


if __name__ == "__main__":
    main()
