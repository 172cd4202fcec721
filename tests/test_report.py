"""`evaluate.py --plots`: what the figures are made of, the page alone in the world, and runs side by side."""

import base64
import html.parser
import json
import os
import types

import numpy as np
import pytest

from santm_tf.training import page, report, score_figures, scores
from santm_tf.training.commands import evaluate, train
from santm_tf.training.layer_figures import figure
from tests import made_run
from tests.programs import last_line, refused, run

OF_LAYER = {"segments", "write", "read", "attention", "usage", "chebyshev"}


@pytest.fixture
def drawn(monkeypatch):
    """`{name: arguments}` of the charts that are drawn."""
    calls = {}

    def watched(name, draw):
        def call(*arguments):
            calls[name] = arguments
            return draw(*arguments)

        return call

    for name in ("confusion", "lengths", "positions", "agreement"):
        monkeypatch.setattr(score_figures, name, watched(name, getattr(score_figures, name)))
    return calls


class Page(html.parser.HTMLParser):
    """What a page holds: its tags, its images by name, its cells."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.images, self.cells, self.attributes = [], {}, [], []
        with open(path, encoding="utf-8") as file:
            self.feed(file.read())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.attributes += [(tag, *item) for item in attrs.items()]
        if tag == "figure":
            self.figure = attrs["id"]
        if tag == "img":
            assert attrs["alt"]
            self.images[self.figure] = attrs["src"]

    def handle_data(self, data):
        if self.tags and self.tags[-1] in ("td", "th") and data.strip():
            self.cells.append(data)


def read(path, folder):
    """The page, once it is known to need nothing but itself."""
    found = Page(path)
    assert not {"script", "link", "iframe", "object"} & set(found.tags)
    for tag, name, value in found.attributes:
        assert not name.startswith("on") and name != "href", (tag, name)
        assert name != "src" or value.startswith("data:image/png;base64,")
    policy = [value for tag, name, value in found.attributes if tag == "meta" and name == "content"]
    assert any("default-src 'none'" in value for value in policy)
    assert found.tags.count("figcaption") == len(found.images)
    for name, source in found.images.items():
        with open(os.path.join(folder, f"{name}.png"), "rb") as file:
            assert base64.b64decode(source.partition(",")[2]) == file.read()
    return found


def evaluated(capsys, folder, *argv):
    """The figures on the last line, and the page that was written."""
    run(evaluate, f"--workdir={folder}", "--plots", *argv)
    return last_line(capsys), read(os.path.join(folder, "report.html"), os.path.join(folder, "plots"))


def test_the_report_of_a_classifier(tmp_path, capsys, drawn):
    folder, task, _ = made_run.make(tmp_path / "run", "--seed=3")
    np.save(os.path.join(folder, "masks.npy"), np.ones([3, 64], bool))
    result, found = evaluated(capsys, folder)
    assert set(found.images) == OF_LAYER | {"confusion", "learning_curves", "access_mask"}
    matrix, names = drawn["confusion"]
    assert np.trace(matrix) / np.sum(matrix) == pytest.approx(result["test_accuracy"])
    np.testing.assert_array_equal(np.sum(matrix, 1), np.bincount(np.concatenate([y for _, y in task.test])))
    assert len(names) == 10
    assert "--units=4" in found.cells and "--units=32" in found.cells and "--slot_width=32" in found.cells
    assert not {"--task=digits", "--plots"} & set(found.cells)  # as by default, and no part of the run


def test_the_report_of_a_baseline_has_what_a_baseline_has(tmp_path, capsys):
    folder, *_ = made_run.make(tmp_path / "run", "--model=lstm", "--task=adding", "--length=6")
    _, found = evaluated(capsys, folder)
    assert set(found.images) == {"learning_curves", "agreement"}


def test_the_report_of_a_task_of_any_length(tmp_path, capsys, drawn, monkeypatch):
    monkeypatch.setattr(report, "BEYOND", (1, 2))
    folder, *_ = made_run.make(tmp_path / "run", "--task=copy", "--max_length=4", "--bits=3",
                               "--mask_period=5")
    result, found = evaluated(capsys, folder, "--test_length=5")
    assert set(found.images) == OF_LAYER | {"learning_curves", "positions", "by_length"}
    curve, chance, noun, metric, trained = drawn["lengths"]
    assert list(curve) == [4, 5, 8] and (noun, metric, trained) == ("length", "wrong_bits", 4)
    assert chance == {length: 1.5 * length for length in curve}
    assert curve[5] == pytest.approx(result["test_wrong_bits"])
    accuracy, _ = drawn["positions"]
    assert len(accuracy) == 5
    assert 3 * np.sum(1 - accuracy) == pytest.approx(result["test_wrong_bits"], rel=1e-4)


def test_the_report_of_a_language_model(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question <&> " * 40)
    folder, *_ = made_run.make(tmp_path / "run", "--task=chars", f"--data_dir={text}", "--window=16",
                               "--batch_size=4")
    _, found = evaluated(capsys, folder)
    assert set(found.images) == OF_LAYER | {"learning_curves"}


def test_what_is_in_the_way_is_named(tmp_path, capsys):
    folder, *_ = made_run.make(tmp_path / "run", "--model=lstm", "--task=adding", "--length=6")
    with open(os.path.join(folder, "plots"), "w"):
        pass
    assert os.path.join(folder, "plots") in refused(capsys, evaluate, f"--workdir={folder}", "--plots")


def test_the_figures_are_told_whatever_comes_of_the_report(capsys, monkeypatch):
    def fail(*given):
        raise KeyError("a bug of ours")

    monkeypatch.setattr(report, "write", fail)
    session = types.SimpleNamespace(plots=True, export_dir=None)
    scores.tell({"test_loss": 0.5})
    with pytest.raises(KeyError):
        scores.finish(types.SimpleNamespace(session=session), None, None, None, [], {"test_loss": 0.5})
    assert last_line(capsys) == {"test_loss": 0.5}


def test_a_page_escapes_what_it_is_given(tmp_path):
    nasty = '<script>alert("&")</script>'
    made = figure(nasty)
    made.subplots()
    path = str(tmp_path / "page.html")
    table = page.Table(nasty, [nasty], [[nasty], [0.123456789], [None]])
    page.write(path, str(tmp_path / "plots"), nasty, [table], [page.View("view", made, nasty)])
    found = read(path, tmp_path / "plots")
    assert "0.1235" in found.cells and nasty in "".join(found.cells)


def finished(folder, seed, score, *argv, epochs=3, task="adding"):
    """A work directory without weights, as far as a comparison looks at one."""
    os.makedirs(folder)
    with open(folder / "flags.cfg", "w") as file:
        file.write("\n".join([f"--task={task}", f"--seed={seed}", *argv]))
    with open(folder / "metrics.json", "w") as file:
        json.dump({"epochs": [{"epoch": n, "val_mse": score + n, "seconds": 1.0} for n in range(epochs)],
                   "result": {"task": task, "model": "santm", "seed": seed, "test_loss": 9.0,
                              "test_mse": score, "test_boundary_rate": 0.5}}, file)
    return str(folder)


def test_runs_that_differ_in_the_seed_are_a_group(tmp_path, capsys):
    runs = [finished(tmp_path / f"{units}-{seed}", seed, units + seed, f"--units={units}", "--nojit_compile")
            for units in (8, 16) for seed in (0, 1, 2)]
    runs += [finished(tmp_path / "rate", 0, 7.0, "--units=8", "--access_rate=0.5")]
    run(evaluate, f"--workdir={','.join([*runs, runs[0]])}", "--plots")
    figures = json.loads(capsys.readouterr().out)
    assert figures == {
        "units=8, access_rate=1.0": {"n": 3, "test_mse": {"mean": 9.0, "deviation": 1.0}},
        "units=8, access_rate=0.5": {"n": 1, "test_mse": {"mean": 7.0, "deviation": None}},
        "units=16": {"n": 3, "test_mse": {"mean": 17.0, "deviation": 1.0}}}
    found = read(tmp_path / "comparison.html", tmp_path / "comparison")
    assert set(found.images) == {"test_figures", "learning_curves"}
    assert {"16-2", "0.5", "units", "access_rate"} <= set(found.cells) and "jit_compile" not in found.cells


def test_what_cannot_be_compared_is_refused(tmp_path, capsys):
    one, two = finished(tmp_path / "one", 0, 1.0), finished(tmp_path / "two", 0, 1.0, task="copy")
    both = f"--workdir={one},{two}"
    line = refused(capsys, evaluate, both, "--plots")
    assert one in line and two in line and "adding" in line and "copy" in line
    assert "--plots" in refused(capsys, evaluate, both)
    none = str(tmp_path / "none")
    line = refused(capsys, evaluate, f"--workdir={one},{none}", "--plots")
    assert f"--workdir={none}: no flags.cfg" in line
    with open(os.path.join(two, "metrics.json"), "w") as file:
        json.dump({"epochs": []}, file)
    assert "no result yet" in refused(capsys, evaluate, both, "--plots")
    assert "no comma" in refused(capsys, train, both)
    assert not os.path.exists(tmp_path / "comparison.html")
