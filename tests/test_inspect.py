"""`python -m santm_tf.inspect`, run as a user runs it but in this process."""

import os
import re

import numpy as np
import pytest
import tensorflow as tf

from santm_tf.analysis import describe
from santm_tf.analysis.trace import inputs_of, layer_of, trace
from santm_tf.keras import keras
from santm_tf.training import commands, inspect_run
from tests import made_run, programs


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """A work directory, its task, its model, and the path of a sequence."""
    folder, task, model = made_run.make(tmp_path_factory.mktemp("digits") / "run", "--boundaries=fixed",
                                        "--segment_length=5")
    path = os.path.join(folder, "x.npy")
    np.save(path, next(iter(task.test))[0][0].numpy().astype(np.float64))
    return folder, task, model, path


def output(capsys, *argv):
    programs.run(commands.inspect, *argv)
    return capsys.readouterr().out.strip().split("\n")


def refused(capsys, *argv):
    return programs.refused(capsys, commands.inspect, *argv)


def after(lines, heading):
    """The indented lines below one that begins so."""
    first = next(n for n, line in enumerate(lines) if line.startswith(heading)) + 1
    return [line for line in lines[first:next((n for n, line in enumerate(lines[first:], first)
                                               if not line.startswith("  ")), len(lines))]]


def test_what_one_sequence_did(digits, capsys, tmp_path):
    folder, _, model, path = digits
    lines = output(capsys, f"--workdir={folder}", f"--input={path}", f"--out={tmp_path}/figures")
    assert "64 steps" in lines[0]
    x = np.load(path)[None].astype(np.float32)
    seen = trace(layer_of(model), *inputs_of(model, x))

    ranges = [[int(n) for n in text.split("-")] for text in after(lines, "segments")[0].split()]
    assert ranges[0][0] == 0 and ranges[-1][-1] == 63
    assert all(one[-1] + 1 == next_[0] for one, next_ in zip(ranges, ranges[1:], strict=False))
    assert {one[-1] for one in ranges} - {63} == set(np.flatnonzero(seen.boundaries[0])) - {63}
    assert [int(n) for n in after(lines, "accesses")[0].split()] == seen.steps.tolist()

    total = seen.write_weights[0].sum((0, 1))
    slots = [int(re.search(r"slot (\d+)", line)[1]) for line in after(lines, "written")]
    np.testing.assert_allclose(total[slots], np.sort(total)[::-1], rtol=1e-5)  # all 8, the largest first
    for line in after(lines, "read"):
        step, slot, weight = re.fullmatch(r"  step (\d+): slot (\d+) \(([\d.]+)\), "
                                          r"(?:written most at step \d+|never written)", line).groups()
        read = seen.read_weights[0, list(seen.steps).index(int(step)), 0]
        assert read.max() == pytest.approx(read[int(slot)]) == pytest.approx(float(weight), abs=0.006)
    assert f"step {seen.steps[-1]}:" in after(lines, "read")[-1]

    share = tf.nn.softmax(model(x)[0]).numpy()
    best = re.findall(r"(\d+) \(([\d.]+)\)", after(lines, "output")[0])
    assert [int(n) for n, _ in best] == np.argsort(-share)[:3].tolist()
    np.testing.assert_allclose([float(value) for _, value in best], np.sort(share)[:-4:-1], atol=6e-4)
    assert {"segments.png", "write.png", "read.png", "attention.png"} == set(os.listdir(tmp_path / "figures"))


def test_a_slot_names_the_access_that_wrote_it_most():
    """Slot 5 written at step 1, slot 2 at step 4 and, less, at 6: what is read at 9 comes from there."""
    from santm_tf.analysis.trace import Trace

    steps = np.array([1, 4, 6, 9])
    write, read = np.zeros([2, 1, 4, 1, 8])
    write[0, 0, 0, 5], write[0, 1, 0, 2], write[0, 2, 0, 2], write[0, 3, 0, 7] = 1.0, 0.9, 0.4, 1.0
    read[0, [0, 1, 2, 3], 0, [5, 5, 2, 2]] = 0.3, 0.5, 0.6, 0.7
    slots = np.broadcast_to(np.arange(8), write.shape)
    none = np.zeros([1, 10, 0])
    seen = Trace(np.eye(1, 10, 3, dtype=bool), np.ones([1, 10], bool), np.isin(np.arange(10), steps), steps,
                 np.ones([1, 4]), slots, read, slots, write, np.zeros([1, 8, 1]), none, none, none, none)
    assert list(describe.recalled(seen))[1:] == [
        "  step 1: slot 5 (0.30), never written", "  step 4: slot 5 (0.50), written most at step 1",
        "  step 6: slot 2 (0.60), written most at step 4", "  step 9: slot 2 (0.70), written most at step 4"]
    assert list(describe.written(seen))[1] == "  slot 2: 1.30 in all, most at step 4 (0.90)"
    assert list(describe.segments(seen))[:2] == ["segments: 2, of 4 to 6 steps, 5.0 on average", "  0-3 4-9"]


def test_a_text_and_its_next_characters(tmp_path, capsys):
    text = tmp_path / "text.txt"
    text.write_text("to be or not to be, that is the question\n" * 60)
    folder, task, _ = made_run.make(tmp_path / "run", "--task=chars", f"--data_dir={text}", "--window=16",
                                    "--batch_size=4")
    part = tmp_path / "part.txt"
    part.write_text("not to be")
    from_text = output(capsys, f"--workdir={folder}", f"--input={part}")
    assert "9 steps" in from_text[0]
    assert len(after(from_text, "output")) == 9
    np.save(tmp_path / "part.npy", task.lexicon().encode(b"not to be"))
    from_ids = output(capsys, f"--workdir={folder}", f"--input={tmp_path}/part.npy")
    assert from_ids[1:] == from_text[1:]
    np.save(tmp_path / "part.npy", [1, task.vocabulary])
    line = refused(capsys, f"--workdir={folder}", f"--input={tmp_path}/part.npy")
    assert f"token {task.vocabulary}" in line


def test_bits_and_numbers():
    bits, = np.random.default_rng(0).normal(size=[1, 20, 3])
    lines = list(describe.answer(bits, keras.losses.BinaryCrossentropy(from_logits=True)))
    assert lines[1:] == [f"  step {n}: " + "".join(str(int(v > 0)) for v in bits[n]) for n in range(8, 20)]
    assert list(describe.answer(np.array([0.25]), keras.losses.MeanSquaredError())) == ["output: 0.25"]


@pytest.mark.parametrize("x, named", [
    (np.zeros([64, 2]), r"\[64, 2\]; the model reads numbers of shape \[T, 1\]"),
    (np.zeros([2, 64, 1]), r"\[2, 64, 1\]"),
    (np.zeros([0, 1]), "is empty"),
    (np.float32(3), r"\[\]"),
    (np.array([[0.0], [np.nan]]), "step 1 has NaN"),
    (np.array([[1e300]]), "step 0 has NaN or infinity"),
    (np.array([["a"]]), "<U1"),
], ids=["too wide", "3-D", "empty", "a number", "NaN", "too large", "text"])
def test_a_sequence_that_the_model_cannot_read(digits, tmp_path, x, named):
    np.save(tmp_path / "x.npy", x)
    with pytest.raises(ValueError, match=named):
        inspect_run.read_input(str(tmp_path / "x.npy"), digits[1])


@pytest.mark.parametrize("content, named", [
    (None, "No such file"), (b"", "not a .npy file"), (b"\x93NUMPY\x01\x00", "damaged"),
    (b"\x93NUMPY\x01\x00\x10\x00{'descr':'|O'  }\n", "damaged"),
], ids=["missing", "no array", "cut off", "objects"])
def test_a_file_that_is_none(digits, tmp_path, content, named):
    path = tmp_path / "x.npy"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=named):
        inspect_run.read_input(str(path), digits[1])


def test_one_line_says_what_is_wrong(digits, capsys, tmp_path):
    folder, _, _, path = digits
    assert f"--input={tmp_path}/none" in refused(capsys, f"--workdir={folder}", f"--input={tmp_path}/none")
    assert "no flags.cfg" in refused(capsys, f"--workdir={tmp_path}", f"--input={path}")
    assert "'uints'" in refused(capsys, f"--workdir={folder}", f"--input={path}", "--uints=3")
    baseline, *_ = made_run.make(tmp_path / "run", "--model=lstm")
    assert "no SANTM layer" in refused(capsys, f"--workdir={baseline}", f"--input={path}")


def test_own_data_are_read_in_their_unit(tmp_path, capsys):
    rng = np.random.default_rng(0)
    x, y = 1000 + 50 * rng.normal(size=[40, 12, 2]), np.repeat(["low", "high"], 20)
    x[3, 2, 0] = np.nan
    np.savez(tmp_path / "own.npz", x=x, y=y)
    folder = str(tmp_path / "run")
    programs.run(commands.train, "--task=sequences", f"--data_dir={tmp_path}/own.npz", f"--workdir={folder}",
                 "--max_steps=1", "--nojit_compile", "--units=4", "--slot_width=4", "--memory_slots=4",
                 "--batch_size=4")
    capsys.readouterr()
    np.save(tmp_path / "x.npy", x[3])
    lines = output(capsys, f"--workdir={folder}", f"--input={tmp_path}/x.npy")
    assert "12 steps" in lines[0] and any("high" in line for line in lines)
    np.save(tmp_path / "inf.npy", np.where(np.isnan(x[3]), np.inf, x[3]))
    assert "inputs: must be finite numbers" in refused(capsys, f"--workdir={folder}",
                                                       f"--input={tmp_path}/inf.npy")
