"""What is heard, from the log-mel frames of recordings: a speaker, a word, a bird, a machine."""

import collections
import functools
import posixpath
import re

import numpy as np
import tensorflow as tf
from absl import logging

from santm_tf.tasks import stored
from santm_tf.tasks.archive import TEST, TRAIN, VALIDATION, Archive, digest, printable, report, split
from santm_tf.tasks.task import Task, TaskError, by_epoch, classification

URL = "https://github.com/Jakobovski/free-spoken-digit-dataset"
MELS, WINDOW, HOP = 40, 0.025, 0.010  # seconds
LOWEST = 125.0  # Hz
LEAST_RATE, MOST_RATE = 1_000, 1_000_000  # Hz; a lower one leaves no room for the mels
SHOWN = 10  # recordings left out that are named
LIMIT = 10.0  # normalised frames lie within it either way
PADDING = -100.0
WAVE = re.compile(rb"RIFF....WAVE", re.DOTALL)
DIGITS = re.compile(r"\d+_(?P<name>.+)_(?P<index>\d+)\.wav", re.IGNORECASE)
NAMED = re.compile(r"(?P<name>[^_-]+)[_-].*")


def log_mel(samples, rate):
    """`log(1e-6 + mel |STFT|)`: 40 mels from 125 Hz to half the rate, Hann windows of 25 ms each 10 ms.

    Args:
      samples: `[n]` float32 in [-1, 1]. rate: samples a second.

    Returns:
      `[frames, 40]` float32; no frame where the samples are shorter than a window.

    >>> log_mel(tf.zeros([8000]), 8000).shape
    TensorShape([98, 40])
    """
    spectrum = tf.signal.stft(samples, round(WINDOW * rate), round(HOP * rate))
    mel = tf.signal.linear_to_mel_weight_matrix(MELS, spectrum.shape[-1], rate, LOWEST, rate / 2)
    return tf.math.log(1e-6 + tf.abs(spectrum) @ mel)


def random_groups(classes, utterances, key):
    """Groups of a class's recordings, drawn at random. No recording is in two groups.

    Fewer than `utterances` of a class are left over; which ones depends on the key.

    Args:
      classes: of each recording, ints `[n]` in ascending order.
      utterances: recordings in a sequence, k. key: int `[2]`, the random key.

    Returns:
      int64 `[m, k]`, the recordings of each sequence. m follows from the classes alone.

    >>> pairs = random_groups([0, 0, 0, 1, 1], utterances=2, key=[0, 0])
    >>> sorted(sorted(pair) for pair in pairs.numpy().tolist())[1]
    [3, 4]
    """
    counts = np.bincount(classes)
    starts = np.cumsum(counts) - counts
    groups = np.concatenate([start + np.arange(count - count % utterances).reshape(-1, utterances)
                             for start, count in zip(starts, counts, strict=True)])
    within, among = tf.unstack(tf.random.split(key))
    noise = tf.random.stateless_uniform([len(classes)], within, dtype=tf.float64)
    order = tf.argsort(tf.cast(classes, tf.float64) + noise, stable=True)
    order = tf.cast(order, tf.int64)
    return tf.random.experimental.stateless_shuffle(tf.gather(order, groups), among)


class SoundFront(tf.Module):
    """From wav files to the frames that a model takes.

    Args:
      rate: that of the files, in samples a second. steps: frames at most; what is beyond is cut off.
      mean, deviation: of the training frames' mels, `[40]`.

    >>> front = SoundFront(8000, steps=100, mean=np.zeros(MELS, "f"), deviation=np.ones(MELS, "f"))
    >>> x, valid = front(wav=[tf.audio.encode_wav(tf.zeros([800, 1]), 8000)])
    >>> x.shape, valid.numpy().sum()
    (TensorShape([1, 8, 40]), np.int64(8))
    """

    step = None  # streams take frames

    def __init__(self, rate, steps, mean, deviation):
        super().__init__()
        self.rate, self.steps = rate, steps
        self.mean, self.deviation = tf.constant(mean), tf.constant(deviation)

    @property
    def signature(self):
        return {"wav": tf.TensorSpec([None], tf.string, "wav")}

    @property
    def facts(self):
        takes = f"wav files of 16-bit PCM at {self.rate} Hz"
        return {"takes": takes, "rate": self.rate, "max_steps": self.steps}

    def get_config(self):
        return {"rate": self.rate, "steps": self.steps, "mean": self.mean.numpy(),
                "deviation": self.deviation.numpy()}

    def __call__(self, wav):
        frames = tf.map_fn(self._frames, tf.convert_to_tensor(wav), fn_output_signature=tf.RaggedTensorSpec(
            [None, MELS], tf.float32, ragged_rank=0))
        return frames.to_tensor(PADDING), tf.sequence_mask(frames.row_lengths())

    def _frames(self, wav):
        filled = tf.strings.join([wav, b"." * 12])
        head, form = (tf.strings.substr(filled, place, 4) for place in (0, 8))
        with tf.control_dependencies(_required((head == b"RIFF") & (form == b"WAVE"), "wav: no wav file")):
            audio, rate = tf.audio.decode_wav(wav)
        told = tf.strings.format(f"wav: {{}} Hz; the model takes {self.rate} Hz, resample it", rate)
        long = tf.shape(audio)[0] >= round(WINDOW * self.rate)
        with tf.control_dependencies([*_required(rate == self.rate, told),
                                      *_required(long, f"wav: shorter than {WINDOW} s")]):
            frames = log_mel(tf.reduce_mean(audio, 1), self.rate)[:self.steps]
        return tf.clip_by_value((frames - self.mean) / self.deviation, -LIMIT, LIMIT)


def load(batch_size, seed, data_dir: str | None = None, utterances: int = 1, max_length: int | None = None):
    """The class of a recording, from its log-mel frames; or of several recordings of one class in a row.

    x is float32 `[B, T, 40]`, `log_mel` less the training frames' mean and divided by their deviation
    (per mel), kept within 10 either way and followed by `PADDING`; y int32 `[B]`, the class's place in the
    order of names. T is the longest possible sequence, or `max_length`.

    Each class's recordings are split first, then put together. Where all are named
    `digit_speaker_index.wav`, as in the free spoken digit dataset, index 0 to 4 is for the test and 5 to 9
    for validation. Otherwise `archive.split` splits them. Validation and test go through the recordings
    `utterances` times, in other groups each time, so they have about one sequence per recording.

    Recordings that are damaged, of less than 1,000 or more than 1,000,000 Hz, or shorter than a window are
    left out. A warning counts them, and each of the first ten has a line.

    Args:
      seed: decides the groups and the order of each training epoch.
      data_dir: folder or zip of 16-bit wav files at one sample rate, in one folder per class, or all in one
        folder and named as above or `class_anything.wav`.
      utterances: recordings of one class in a sequence, for instance of one speaker.
      max_length: frames of a sequence at most; what is beyond is cut off.

    Raises:
      TaskError: data that are missing, of several sample rates, or too few.
    """
    if data_dir is None:
        raise TaskError("--data_dir: --task=sounds needs a folder or zip of wav files, for instance the "
                        f"free spoken digit dataset, {URL}")
    classes, y, parts, frames, rate = _split(Archive(data_dir), utterances)
    lengths = np.array([len(frame) for frame in frames])
    steps = max(_longest(lengths[chosen], utterances) for chosen in
                ((parts == part) & (y == n) for part in range(3) for n in range(len(classes))))
    steps = min(steps, max_length or steps)
    flat = np.concatenate(frames)
    mean, deviation = _statistics(flat[np.repeat(parts == TRAIN, lengths)])
    _normalise(flat, mean, deviation)
    tested = np.bincount(y[parts == TEST]) // utterances
    return Task(name="sounds", **_sequences(flat, lengths, y, parts, steps, utterances, batch_size, seed),
                features=MELS, padding=PADDING, classes=classes.tolist(),
                front=SoundFront(rate, steps, mean, deviation),
                **classification(len(classes), chance=float(tested.max() / tested.sum())))


def _required(holds, message):
    check = tf.debugging.Assert(holds, [message])
    return [] if check is None else [check]


def _sequences(flat, lengths, y, parts, steps, utterances, batch_size, seed):
    """The fields of `by_epoch`."""
    with tf.device("CPU:0"):  # where tf.data runs
        rows, y_of = tf.RaggedTensor.from_row_lengths(flat, lengths), tf.constant(y)

    def batches(part, keys, **options):
        own = np.flatnonzero(parts == part)
        sequences = tf.concat([tf.gather(own, random_groups(y[own], utterances, key)) for key in keys], 0)

        def batch(recordings):
            x = tf.gather(rows, recordings).merge_dims(1, 2).to_tensor(PADDING, shape=[None, steps, MELS])
            return tf.ensure_shape(x, [recordings.shape[0], steps, MELS]), tf.gather(y_of, recordings[:, 0])

        return tf.data.Dataset.from_tensor_slices(sequences).batch(batch_size, **options).map(batch)

    def fixed(part):
        return batches(part, [tf.constant([part, n], tf.int64) for n in range(utterances)]).prefetch(2)

    def drawn(epoch):
        return batches(TRAIN, [[tf.cast(seed, tf.int64), epoch]], drop_remainder=True)

    sequences = int(sum(np.bincount(y[parts == TRAIN]) // utterances))
    stored.enough("sounds", batch_size, sequences)
    return by_epoch(drawn, sequences // batch_size, fixed(VALIDATION), fixed(TEST))


def _split(archive, utterances):
    """The classes' names; of each recording its class, in order, its split and its frames; their rate."""
    names, kinds = _named(archive)
    names, kinds, frames, digests, rate = _recordings(archive, names, kinds)
    classes, y = np.unique(kinds, return_inverse=True)
    if len(classes) < 2:
        raise TaskError(f"--data_dir={archive.path}: all recordings are of {classes[0]}; two classes are "
                        "needed")
    order = np.argsort(y, kind="stable")
    names, y, frames = [names[n] for n in order], y[order].astype(np.int32), [frames[n] for n in order]
    parts = _parts(names, y, [digests[n] for n in order], classes)
    for part, title in (TRAIN, "training"), (VALIDATION, "validation"), (TEST, "test"):
        for n, count in enumerate(np.bincount(y[parts == part], minlength=len(classes))):
            if count < utterances:
                raise TaskError(f"--utterances={utterances}: {classes[n]} has {count} recordings for "
                                f"{title}; give at most so many")
    return classes, y, parts, frames, rate


def _statistics(frames):
    """The mean and the deviation of each mel."""
    return (frames.mean(0, np.float64).astype(np.float32),
            np.maximum(frames.std(0, dtype=np.float64), 1e-3).astype(np.float32))


def _normalise(frames, mean, deviation):
    """Normalises frames in place."""
    frames -= mean
    frames /= deviation
    np.clip(frames, -LIMIT, LIMIT, out=frames)


def _named(archive):
    """The wav files of an archive, and the class of each by its folder or its name."""
    names = [name for name in archive.names if name.lower().endswith(".wav")]
    if not names:
        raise TaskError(f"--data_dir={archive.path}: no wav file in it{archive.hint()}")
    if len({posixpath.dirname(name) for name in names}) > 1:
        found = [(name, kind) for kind, files in archive.classes(".wav").items() for name in files]
        return zip(*found, strict=True)
    kinds = []
    for name in names:
        match = DIGITS.fullmatch(base := posixpath.basename(name)) or NAMED.fullmatch(base)
        if not match:
            raise TaskError(f"{archive.path}: {name} names no class; make a folder per class, or call it "
                            "class_anything.wav")
        kinds.append(printable(match["name"], archive.path))
    return names, kinds


def _recordings(archive, names, kinds):
    """Names, classes, frames and digests of the recordings that can be used; their one rate."""
    found, damaged, rates = [], [], {}
    for name, kind in zip(names, kinds, strict=True):
        content = archive.read(name)
        try:
            audio, rate = _decoded(content)
        except ValueError as error:
            damaged.append(f"{name} ({error})")
            continue
        rates[name] = int(rate)
        frames = _compiled_log_mel(rates[name])(tf.reduce_mean(audio, 1)).numpy()
        if not len(frames):
            damaged.append(f"{name} (shorter than {WINDOW} s)")
            continue
        found.append((name, kind, frames, digest(content)))
    (usual, _), *others = collections.Counter(rates.values()).most_common() or [(None, 0)]
    if others:
        name = next(name for name, rate in rates.items() if rate != usual)
        raise TaskError(f"{archive.path}: {name} has {rates[name]} Hz and most others {usual} Hz; resample "
                        "them to one rate")
    if lost := sorted(set(kinds) - {kind for _, kind, *_ in found}):
        raise TaskError(f"{archive.path}: no recording of {lost[0]} can be used, the first is {damaged[0]}")
    report(damaged, len(names), "recordings", "cannot be used and are left out")
    for one in damaged[1:SHOWN]:
        logging.warning("%s is left out, too", one)
    return *zip(*found, strict=True), usual


def _decoded(content):
    """The samples of a wav file, `[n, channels]`, and its rate; a `ValueError` that says why it has none."""
    if not WAVE.match(content):
        raise ValueError("no wav file")
    try:
        audio, rate = tf.audio.decode_wav(content)
    except UnicodeDecodeError as error:  # TensorFlow's message quotes the bytes that it found
        raise ValueError("damaged header") from error
    except tf.errors.InvalidArgumentError as error:
        said = error.message.split("}} ")[-1].split(" [Op")[0]
        raise ValueError(said.encode("unicode_escape").decode()) from error
    if not LEAST_RATE <= rate <= MOST_RATE:
        raise ValueError(f"{rate} Hz")
    return audio, rate


@functools.cache
def _compiled_log_mel(rate):
    return tf.function(lambda samples: log_mel(samples, rate), [tf.TensorSpec([None], tf.float32)])


def _parts(names, y, digests, classes):
    """The split of each recording: by the index in its name, or by `archive.split`."""
    matches = [DIGITS.fullmatch(posixpath.basename(name)) for name in names]
    if not all(matches):
        return split(y, digests, classes)
    index = np.array([int(match["index"]) for match in matches])
    return np.where(index < 5, TEST, np.where(index < 10, VALIDATION, TRAIN))


def _longest(lengths, utterances):
    return int(np.sort(lengths)[-utterances:].sum())
