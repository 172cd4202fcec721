"""The task of sounds: frames against NumPy, recordings that never leak, and what is refused."""

import functools
import io
import os
import wave
import zipfile

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import tasks
from santm_tf.tasks import sounds
from santm_tf.tasks.sounds import PADDING
from tests.helpers import task_refused

DATA = os.environ.get("SANTM_DATA", os.path.join(os.path.dirname(__file__), "../../shared/data"))
DIGITS = os.path.join(DATA, "fsdd.zip")


def arrays(dataset):
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def wav(samples, rate=8000, channels=1, width=2):
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setparams((channels, width, rate, 0, "NONE", ""))
        out.writeframes(np.asarray(samples, f"<i{width}").tobytes())
    return file.getvalue()


def recordings(names, rate=8000, seed=0):
    """Noise of 50 to 150 ms: no frame occurs twice."""
    rng = np.random.default_rng(seed)
    return {name: wav(rng.normal(0, 3000, rng.integers(rate // 20, rate // 6)), rate) for name in names}


def zipped(path, files):
    with zipfile.ZipFile(path, "w") as file:
        for name, content in files.items():
            file.writestr(name, content)
    return str(path)


DIGIT_NAMES = [f"rec/{digit}_{name}_{index}.wav" for digit in range(2) for name in ("ann", "b_o", "cy")
               for index in range(16)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    return zipped(tmp_path_factory.mktemp("sounds") / "digits.zip", recordings(DIGIT_NAMES))


@pytest.fixture(scope="module")
def single(digits):
    """Every recording by itself."""
    task = sounds.load(1, 0, data_dir=digits, utterances=1)
    return [arrays(part) for part in (task.train, task.validation, task.test)]


refused = functools.partial(task_refused, "sounds")


def real_frames(x):
    """The frames that are not padding, as bytes, in order."""
    return [frame.tobytes() for row in x for frame in row[row[:, 0] != PADDING]]


@pytest.mark.parametrize("rate", [8000, 16000])
def test_log_mel_against_numpy(rate):
    samples = np.random.default_rng(0).uniform(-1, 1, rate // 4 + 37).astype(np.float32)
    size, hop = rate // 40, rate // 100
    n_fft = 1 << (size - 1).bit_length()
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    count = 1 + (len(samples) - size) // hop
    spectrum = np.abs([np.fft.rfft(window * samples[n * hop:n * hop + size], n_fft) for n in range(count)])

    def mel(hertz):
        return 1127 * np.log(1 + hertz / 700)

    edges = np.linspace(mel(125), mel(rate / 2), 42)
    bins = mel(np.arange(n_fft // 2 + 1) * rate / n_fft)[:, None]
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    expected = np.log(1e-6 + spectrum @ np.maximum(0, np.minimum(rising, falling)))
    found = sounds.log_mel(samples, rate)
    assert found.shape == (count, 40)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(3, 9), min_size=1, max_size=4), st.integers(1, 3), st.integers(0, 999))
def test_joins_are_of_one_speaker_and_use_a_recording_once(counts, utterances, seed):
    speakers = np.repeat(np.arange(len(counts)), counts)
    rows = sounds.random_groups(speakers, utterances, [seed, 0]).numpy()
    assert rows.shape == (sum(count // utterances for count in counts), utterances)
    assert len(set(rows.ravel().tolist())) == rows.size
    assert (speakers[rows] == speakers[rows[:, :1]]).all()
    np.testing.assert_array_equal(rows, sounds.random_groups(speakers, utterances, [seed, 0]))


def test_the_contract(digits):
    task = sounds.load(3, 5, data_dir=digits, utterances=3)
    x, y = task.train.element_spec
    steps = x.shape[1]
    assert x == tf.TensorSpec([3, steps, 40], tf.float32) and y == tf.TensorSpec([3], tf.int32)
    assert task.test.element_spec[0].shape.as_list() == [None, steps, 40]
    assert (task.outputs, task.features, task.padding, task.vocabulary) == (3, 40, PADDING, None)
    # 12 recordings of each speaker are to train with, 10 each for validation and test
    assert task.steps_per_epoch == len(list(task.train)) == 3 * (12 // 3) // 3
    for part in task.validation, task.test:
        assert np.bincount(arrays(part)[1]).tolist() == [3 * (10 // 3)] * 3
    assert task.chance == {"accuracy": pytest.approx(1 / 3)}
    again = sounds.load(3, 5, data_dir=digits, utterances=3)
    epochs = [arrays(again.train)[0] for _ in range(3)]
    again.epoch.assign(1)
    np.testing.assert_array_equal(epochs[1], arrays(again.train)[0])
    assert not np.array_equal(epochs[0], epochs[1])
    other = sounds.load(4, 6, data_dir=digits, utterances=3)
    assert not np.array_equal(arrays(other.train)[0][:3], epochs[0][:3])
    for part in "validation", "test":
        np.testing.assert_array_equal(arrays(getattr(task, part))[0], arrays(getattr(other, part))[0])


def test_recordings_never_leak_and_the_index_decides_their_split(digits, single):
    frames = [real_frames(x) for x, _ in single]
    assert sum(map(len, frames)) == len(set().union(*frames))
    with zipfile.ZipFile(digits) as file:
        lengths = {name: 1 + (len(file.read(name)) - 44 - 400) // 160 for name in DIGIT_NAMES}
    for found, indices in zip(frames, (range(10, 16), range(5, 10), range(5)), strict=True):
        assert len(found) == sum(n for name, n in lengths.items()
                                 if int(name.split("_")[-1].removesuffix(".wav")) in indices)


def test_frames_are_normalised_by_training_frames_and_padded_at_the_end(digits, single):
    x, _ = single[0]
    valid = x[:, :, 0] != PADDING
    np.testing.assert_allclose(x[valid].mean(0), 0, atol=1e-4)
    np.testing.assert_allclose(x[valid].std(0), 1, atol=1e-4)
    assert np.abs(x[valid]).max() <= sounds.LIMIT < -PADDING and (x[~valid] == PADDING).all()
    assert (valid[:, :-1] >= valid[:, 1:]).all() and valid.any(1).all() and not valid.all()
    short = sounds.load(1, 0, data_dir=digits, utterances=1, max_length=6)
    np.testing.assert_array_equal(arrays(short.train)[0], x[:, :6])


def test_a_join_is_recordings_of_one_split_one_after_another(digits, single):
    task = sounds.load(1, 3, data_dir=digits, utterances=4)
    for part, (x, y) in zip((task.train, task.validation, task.test), single, strict=True):
        whole = {}
        for row, label in zip(x, y, strict=True):
            frames = tuple(real_frames(row[None]))
            whole[frames[0]] = frames, label
        for row, label in zip(*arrays(part), strict=True):
            left = tuple(real_frames(row[None]))
            for _ in range(4):
                frames, expected = whole[left[0]]
                assert left[:len(frames)] == frames and label == expected
                left = left[len(frames):]
            assert not left


def test_folders_and_names_tell_the_speaker(tmp_path):
    names = [f"{name}/chapter{n % 2}/{n}.wav" for name in ("ann", "bob") for n in range(20)]
    for source, call in (("folders", lambda n: n), ("names", lambda n: n.replace("/chapter", "_"))):
        path = tmp_path / source
        for name, content in recordings(names).items():
            os.makedirs((path / call(name).replace("/", "-")).parent, exist_ok=True)
            file = path / (call(name) if source == "folders" else call(name).replace("/", "-"))
            os.makedirs(file.parent, exist_ok=True)
            file.write_bytes(content)
        task = sounds.load(1, 0, data_dir=str(path), utterances=2)
        sizes = [np.bincount(arrays(part)[1]).tolist() for part in (task.train, task.validation, task.test)]
        assert sizes == [[8, 8], [2, 2], [2, 2]]


def test_damaged_recordings_are_counted_and_reported(tmp_path, caplog):
    files = recordings(DIGIT_NAMES)
    a, b, c, d, image, *slow = *DIGIT_NAMES[20:24], *DIGIT_NAMES[40:43]
    files |= {a: files[a][:-5], b: wav([]), c: b"", d: wav([1] * 900, width=4), image: b"\x89PNG\r\n" * 99}
    for name, rate in zip(slow, (0, 100), strict=True):  # headers that are right but for being too slow
        rates = rate.to_bytes(4, "little") + (2 * rate).to_bytes(4, "little")
        files[name] = files[name][:24] + rates + files[name][32:]
    task = sounds.load(1, 0, data_dir=zipped(tmp_path / "z.zip", files), utterances=1)
    said = {record.getMessage() for record in caplog.records}
    assert said >= {
        f"7 of 96 recordings cannot be used and are left out, the first is {a} (Data too short when trying "
        "to read string)", f"{image} (no wav file) is left out, too", f"{slow[1]} (100 Hz) is left out, too"}
    assert len(said) == 7
    assert sum(len(arrays(part)[1]) for part in (task.train, task.validation, task.test)) == 89


def test_what_is_no_wav_says_so_in_one_line():
    """Other containers, headers of any bytes, and rates that no recording has."""
    sound = wav(range(400))
    for content in (b"\xff\xfb\x90\0" * 20, b"ID3\4" + sound, b"fLaC" + sound, b"a\nb\x1b" + sound[4:],
                    sound.replace(b"WAVE", b"AVI "), sound.replace(b"WAVE", b"\xff\xfe\0\0"), b"RIFF", b""):
        with pytest.raises(ValueError, match="^no wav file$"):
            sounds._decoded(content)
    for content, said in ((sound.replace(b"fmt ", b"\xff\xfe\xe9\n"), "damaged header"),
                          (sound.replace(b"fmt ", b"a\n\x1b\t"), None),
                          (sound[:24] + bytes(4) + sound[28:], None),
                          (sound[:24] + np.uint32([2**30, 2**31]).tobytes() + sound[32:], "1073741824 Hz")):
        with pytest.raises(ValueError) as error:
            sounds._decoded(content)
        assert said in (None, str(error.value)) and str(error.value).isprintable()


def test_a_name_that_is_no_utf_8_is_refused(tmp_path):
    for name in b"\xe4_1.wav", b"b_1.wav":
        with open(os.path.join(os.fsencode(tmp_path), name), "wb") as file:
            file.write(wav(range(400)))
    assert refused(data_dir=str(tmp_path)).startswith(f"{tmp_path}: the class name b'\\xe4' is not UTF-8; ")


def test_stereo_is_averaged(tmp_path):
    mono, stereo = recordings(DIGIT_NAMES), {}
    for name, content in mono.items():
        samples = np.frombuffer(content[44:], "<i2")
        stereo[name] = wav(np.stack([samples, samples], 1), channels=2)
    left, right = (arrays(sounds.load(1, 0, data_dir=zipped(tmp_path / f"{n}.zip", files)).train)[0]
                   for n, files in enumerate((mono, stereo)))
    np.testing.assert_allclose(left, right, atol=1e-5)


def test_its_earlier_name_serves(digits):
    assert tasks.load("speaker", batch_size=2, seed=0, data_dir=digits).name == "sounds"


def test_what_cannot_be_used_is_refused(tmp_path, digits):
    assert refused().startswith("--data_dir: --task=sounds needs a folder or zip of wav files")
    assert "https://" in refused()
    assert refused(data_dir=str(tmp_path)) == f"--data_dir={tmp_path}: no wav file in it"
    zipped(tmp_path / "fsdd.zip", {"a": b""})
    assert refused(data_dir=str(tmp_path)).endswith("; name the zip itself if you mean one of fsdd.zip")
    files = recordings(DIGIT_NAMES)
    odd = files | recordings(DIGIT_NAMES[7:8], rate=16000)
    message = refused(data_dir=zipped(tmp_path / "rate.zip", odd))
    assert f"{DIGIT_NAMES[7]} has 16000 Hz and most others 8000 Hz; resample" in message
    ann = {name: content for name, content in files.items() if "ann" in name}
    assert "all recordings are of ann" in refused(data_dir=zipped(tmp_path / "ann.zip", ann))
    message = refused(data_dir=zipped(tmp_path / "lost.zip", ann | {"rec/0_bob_1.wav": b"RIFF"}))
    assert "no recording of bob can be used, the first is rec/0_bob_1.wav (" in message
    few = ann | {name: content for name, content in files.items() if "cy" in name and "_3." not in name}
    message = refused(data_dir=zipped(tmp_path / "few.zip", few), utterances=9)
    assert message == "--utterances=9: cy has 8 recordings for test; give at most so many"
    nameless = zipped(tmp_path / "nameless.zip", recordings(["x/a.wav", "x/b.wav"]))
    assert "x/a.wav names no class" in refused(data_dir=nameless)
    climbing = zipped(tmp_path / "climb.zip", files | {"../0_ann_99.wav": b""})
    assert "../0_ann_99.wav climbs out of the archive" in refused(data_dir=climbing)
    assert refused(data_dir=digits, utterances=0) == "--utterances=0: --task=sounds needs at least 1"
    assert refused(data_dir=digits, max_length=0) == "--max_length=0: --task=sounds needs at least 1"
    assert refused(data_dir=digits, batch_size=10, utterances=4) == (
        "--batch_size=10: --task=sounds has 9 training sequences, use at most 9")


@pytest.mark.skipif(not os.path.exists(DIGITS), reason="needs fsdd.zip (SANTM_DATA)")
def test_the_free_spoken_digits():
    task = sounds.load(30, 0, data_dir=DIGITS, utterances=4)
    x, y = arrays(task.train)
    assert len(y) == 600 and np.bincount(y).tolist() == [100] * 6
    lengths = (x[:, :, 0] != PADDING).sum(1)
    assert lengths.min() > 60 and lengths.max() <= x.shape[1] and np.std(lengths) > 20
    for part in task.validation, task.test:
        assert np.bincount(arrays(part)[1]).tolist() == [48] * 6
    assert np.isfinite(x).all()
