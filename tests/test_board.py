"""What a run writes for TensorBoard, read back as TensorBoard reads it."""

import glob
import os
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import plugin_data_pb2

import santm_tf
from santm_tf.analysis.trace import layer_of
from santm_tf.keras import keras
from santm_tf.training import board, events, flags, mask_history, models
from santm_tf.training.config import Optimiser
from santm_tf.training.errors import UsageError
from santm_tf.training.gradient_norm import GradientNorm
from santm_tf.training.workdir import Workdir

STEPS, BATCH, PERIOD = 3, 4, 6  # of an epoch, of a step, of a sequence


def values(folder):
    """What a folder's event files hold, `{tag: [(step, tensor)]}`."""
    read = EventAccumulator(str(folder), size_guidance={"tensors": 0}).Reload()
    return {tag: [(event.step, tf.make_ndarray(event.tensor_proto)) for event in read.Tensors(tag)]
            for tag in read.Tags()["tensors"]}


def steps(series):
    return [step for step, _ in series]


def data(n=STEPS * BATCH):
    x = np.random.RandomState(0).rand(n, PERIOD, 1).astype("float32")
    return tf.data.Dataset.from_tensor_slices((x, x[:, -1])).batch(BATCH, drop_remainder=True)


def a_task():
    """As much of a `Task` as a board asks for."""
    return types.SimpleNamespace(name="", features=1, lexicon=None, side=None, validation=data(BATCH))


def of_santm(recall="attention"):
    """A small compiled SANTM, with segments of two steps and no more."""
    model = keras.Sequential([
        keras.Input([PERIOD, 1]),
        santm_tf.SANTM(4, memory_slots=6, slot_width=4, attention_heads=2, locality=1, access_rate=0.5,
                       boundaries="fixed", segment_length=2.0, recall=recall, jit_compile=False),
        keras.layers.Dense(1, name="out")])
    model.compile(keras.optimizers.SGD(keras.optimizers.schedules.PolynomialDecay(0.1, 100)), "mse")
    return model


def plain(optimizer="sgd", **options):
    """A linear map of a sequence: fast, and nothing of SANTM's."""
    model = keras.Sequential([keras.Input([PERIOD, 1]), keras.layers.Flatten(),
                                 keras.layers.Dense(1, name="out")])
    model.compile(optimizer, "mse", **options)
    return model


def fit(model, path, first=0, last=3, *argv):
    """Trains from an epoch to another with a `Board` in a work directory; gives Keras's history."""
    config = flags.parse(["program", f"--workdir={path}", f"--batch_size={BATCH}", f"--epochs={last}", *argv])
    os.makedirs(path, exist_ok=True)
    task = a_task()
    watch = board.Board(config, Workdir(str(path)), task, STEPS * last)
    return model.fit(data(), validation_data=task.validation, initial_epoch=first, epochs=last, verbose=0,
                     callbacks=[watch]).history


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The work directory of a small run, its history and its model."""
    keras.utils.set_random_seed(0)
    path, model = tmp_path_factory.mktemp("board") / "first", of_santm()
    return path, fit(model, path), model


def test_figures_are_those_of_keras(trained):
    path, history, _ = trained
    for folder, prefix in (("train", ""), ("validation", "val_")):
        found = values(path / "logs" / folder)
        for name, tag in (("loss", "figures/loss"), ("access_rate", "memory/access_rate"),
                          ("boundary_rate", "memory/boundary_rate")):
            assert steps(found[tag]) == [3, 6, 9]
            np.testing.assert_allclose([value for _, value in found[tag]], history[prefix + name], rtol=1e-6)
        assert [value for _, value in found["memory/mean_segment_length"]] == pytest.approx([2.0] * 3)


def test_figures_of_the_optimiser_and_the_speed_are_of_training(trained):
    path, _, model = trained
    found = values(path / "logs/train")
    rate = model.optimizer._learning_rate
    for step, value in found["optimiser/learning_rate"]:
        assert value == pytest.approx(float(rate(step - 1)))  # that of the last update
    for tag in ("speed/examples_per_second", "optimiser/gradient_norm"):
        assert steps(found[tag]) == [3, 6, 9] and all(value > 0 for _, value in found[tag])
    assert not any(tag.startswith(("optimiser/", "speed/")) for tag in values(path / "logs/validation"))


def test_there_are_views_of_the_memory_and_of_each_sequence(trained):
    path, _, _ = trained
    found = values(path / "logs/validation")
    names = {"memory/access_mask", "memory/usage", "memory/chebyshev"}
    for row in (1, 2):
        names |= {f"sequence_{row}/{view}" for view in ("segments", "read", "write", "attention")}
    assert names == {tag for tag, series in found.items() if series[0][1].ndim == 1}
    for name in names:
        assert steps(found[name]) == [3, 9]  # the first epoch's end and the last's
        width, height, image = found[name][-1][1]
        assert tf.image.decode_png(image).shape[:2] == (int(height), int(width)) and int(height) > 100


def test_histograms_are_of_every_weight(trained):
    path, _, model = trained
    found = {tag: series for tag, series in values(path / "logs/train").items() if tag.startswith("weights/")}
    assert len(found) == len(model.trainable_weights)
    _, buckets = found["weights/out/kernel"][-1]
    assert buckets[:, 2].sum() == 4 and buckets[0, 0] == pytest.approx(model.layers[-1].kernel.numpy().min())


def test_the_card_and_the_hyperparameters_are_of_the_run(trained):
    path, _, model = trained
    found = values(path / "logs")
    (step, text), = found["run"]
    card = text.item().decode()
    assert step == 0 and "santm on digits" in card and "  --batch_size=4" in card
    assert f"| **{models.parameters(model):,}** |" in card and f"TensorFlow {tf.__version__}" in card
    assert f"Keras {keras.__version__}" in card
    read = EventAccumulator(str(path / "logs")).Reload()
    content = read.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.group_name == "first"
    assert start.hparams["model"].string_value == "santm"
    assert start.hparams["batch_size"].number_value == BATCH
    assert "data_dir" not in start.hparams and "workdir" not in start.hparams


def test_a_run_that_goes_on_has_no_epoch_twice(tmp_path):
    fit(plain(), tmp_path / "run", 0, 3)
    model = plain()
    model.optimizer.iterations.assign(2 * STEPS)  # as from the checkpoint of the second epoch
    history = fit(model, tmp_path / "run", 2, 4)
    found = values(tmp_path / "run/logs/train")
    assert all(steps(found[tag]) == [3, 6, 9, 12] for tag in ("figures/loss", "optimiser/gradient_norm"))
    np.testing.assert_allclose([value for _, value in found["figures/loss"][2:]], history["loss"], rtol=1e-6)
    assert steps(values(tmp_path / "run/logs/validation")["figures/loss"]) == [3, 6, 9, 12]
    assert len(values(tmp_path / "run/logs")["run"]) == 1


def test_a_fit_of_part_of_an_epoch_and_one_of_the_rest_are_one_run(tmp_path):
    config = flags.parse(["program", f"--workdir={tmp_path}"])
    watch = board.Board(config, Workdir(str(tmp_path)), a_task(), 2 * STEPS)
    model = plain()
    for epoch, some in enumerate((data().skip(1), data())):
        model.fit(some, initial_epoch=epoch, epochs=epoch + 1, verbose=0, callbacks=[watch])
    assert steps(values(tmp_path / "logs/train")["figures/loss"]) == [2, 5]


def test_a_long_epoch_has_figures_within(tmp_path, monkeypatch):
    monkeypatch.setattr(board, "SECONDS", 0.0)
    fit(plain(), tmp_path, 0, 2)
    # An epoch's first step may be one that compiles, its third is its end.
    assert steps(values(tmp_path / "logs/train")["figures/loss"]) == [2, 3, 5, 6]


def test_views_take_a_hundredth_of_the_time(tmp_path, monkeypatch):
    now = [0.0]

    def monotonic():
        now[0] += 1e-6
        return now[0]

    monkeypatch.setattr(board.time, "monotonic", monotonic)

    class Slow(board.Board):
        def on_epoch_begin(self, epoch, logs=None):
            now[0] += 40.0
            super().on_epoch_begin(epoch, logs)

        def _views(self):
            now[0] += 1.0
            return []

    monkeypatch.setattr(board, "Board", Slow)
    fit(plain(), tmp_path, 0, 10)
    drawn = steps(values(tmp_path / "logs/train")["weights/out/kernel"])
    # After 41 s, once 200 s allow a second second, and at the end of 400 s.
    assert [step // STEPS for step in drawn] == [1, 5, 8, 10]


@pytest.mark.parametrize("model, wanted", [(plain, set()), (lambda: of_santm("read"), {
    "memory/usage", "sequence_1/read", "sequence_1/write", "sequence_1/segments"})])
def test_a_model_has_the_views_that_make_sense(model, wanted, tmp_path, monkeypatch):
    monkeypatch.setattr(board, "SHOWN", 1)
    config = flags.parse(["program", f"--workdir={tmp_path}"])
    watch = board.Board(config, Workdir(str(tmp_path)), a_task(), STEPS)
    watch.set_model(model())
    found = list(watch._views())
    assert {name for name, *_ in found} == wanted and all(about for *_, about in found)


def test_the_result_is_shown_once_beside_train_and_validation(tmp_path):
    for loss in (0.5, 0.25):
        board.write_result(Workdir(str(tmp_path)), 7, {"task": "digits", "seconds": 3.0, "test_loss": loss,
                                                       "test_boundary_rate": 0.5})
    found = values(tmp_path / "logs/test")
    assert {tag: [(step, float(value)) for step, value in series] for tag, series in found.items()} == {
        "figures/loss": [(7, 0.25)], "memory/boundary_rate": [(7, 0.5)],
        "memory/mean_segment_length": [(7, 2.0)]}


# --- the gradients' norm

def by_hand(model):
    """The gradients' norm over the steps of an epoch of `plain`, whose weights stay: NumPy's."""
    kernel, bias = (weight.numpy().astype(float) for weight in model.trainable_weights)
    found = []
    for x, y in data().as_numpy_iterator():
        x = x.reshape(len(x), -1).astype(float)
        error = 2 * (x @ kernel + bias - y) / len(x)
        found.append(np.sqrt(((x.T @ error) ** 2).sum() + (error.sum(0) ** 2).sum()))
    return np.mean(found)


@pytest.mark.parametrize("name", list(models.OPTIMIZERS))
def test_every_optimiser_notes_the_norm_before_clipping(name):
    asked = Optimiser(name, learning_rate=1e-9, schedule="constant", weight_decay=0.0, clip_norm=1e-3)
    model = plain(models.optimizer(asked, STEPS, 1))
    norm, wanted = GradientNorm(model.optimizer), by_hand(model)
    model.fit(data(), verbose=0)
    assert norm.mean_and_reset() == pytest.approx(wanted, rel=1e-4) and wanted > 0.1
    assert norm.mean_and_reset() == 0


@pytest.mark.parametrize("options, policy", [({"jit_compile": True}, "float32"), ({}, "mixed_float16"),
                                             ({}, "mixed_bfloat16"), ({"run_eagerly": True}, "float32")])
def test_the_norm_is_noted_however_the_step_is_compiled(options, policy):
    keras.mixed_precision.set_global_policy(policy)
    try:
        # Gradients so small that none overflows when it is scaled: such a step would not be applied.
        model = plain(keras.optimizers.SGD(1e-9, global_clipnorm=1e-3), loss_weights=0.01, **options)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    norm, wanted = GradientNorm(model.optimizer), 0.01 * by_hand(model)
    model.fit(data(), verbose=0)
    assert norm.mean_and_reset() == pytest.approx(wanted, rel=1e-4 if policy == "float32" else 2e-2)


def test_the_norm_changes_neither_what_is_learned_nor_what_is_saved(tmp_path):
    saved, learned = [], []
    for noted in (False, True):
        keras.utils.set_random_seed(0)
        model = plain(keras.optimizers.Adam(0.1, global_clipnorm=0.1))
        if noted:
            GradientNorm(model.optimizer)
        model.fit(data(), verbose=0, shuffle=False)
        path = tf.train.Checkpoint(optimizer=model.optimizer).save(tmp_path / str(noted))
        saved.append([name for name, _ in tf.train.list_variables(path)])
        learned.append(model.get_weights())
    assert saved[0] == saved[1]
    for a, b in zip(*learned, strict=True):
        np.testing.assert_array_equal(a, b)


# --- the masks, as numbers

def test_the_masks_of_all_epochs_are_kept(trained):
    path, _, model = trained
    mask = layer_of(model).access.openings().numpy() > 0
    assert mask.sum() == PERIOD // 2
    found = mask_history.read(path)
    assert found.dtype == bool and found.shape == (3, PERIOD) and (found[2] == mask).all()


def test_going_on_cuts_the_masks_back(tmp_path):
    for epoch in range(4):
        mask_history.note(tmp_path, epoch, np.arange(5) == epoch)
    mask_history.note(tmp_path, 2, np.ones(5, bool))
    np.testing.assert_array_equal(mask_history.read(tmp_path), [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1] * 5])
    assert os.listdir(tmp_path) == ["masks.npy"]


def test_masks_from_the_middle_of_a_run_are_at_their_epochs(tmp_path):
    assert mask_history.read(tmp_path) is None
    np.testing.assert_array_equal(mask_history.note(tmp_path, 2, np.ones(2, bool)), [[0, 0], [0, 0], [1, 1]])


@pytest.mark.parametrize("content", [b"", b"no array", b"\x93NUMPY\x01\x00v\x00{'descr'"])
def test_a_damaged_masks_file_is_named_before_training(content, tmp_path):
    (tmp_path / "masks.npy").write_bytes(content)
    with pytest.raises(UsageError, match=r"masks\.npy: damaged"):
        fit(plain(), tmp_path)


# --- event files

def write(folder, steps):
    with tf.summary.create_file_writer(str(folder)).as_default():
        for step in steps:
            tf.summary.scalar("x", float(step), step)


def test_cutting_takes_later_steps_and_damaged_ends(tmp_path):
    write(tmp_path, range(10))
    path, = glob.glob(f"{tmp_path}/*tfevents*")
    whole = os.path.getsize(path)
    with open(path, "ab") as file:
        file.write(b"cut off while being written")
    events.cut(str(tmp_path), 20)
    assert os.path.getsize(path) == whole
    os.truncate(path, whole - 5)
    events.cut(str(tmp_path), 20)
    assert steps(values(tmp_path)["x"]) == list(range(9))
    events.cut(str(tmp_path), 4)
    assert steps(values(tmp_path)["x"]) == list(range(5)) and os.listdir(tmp_path) == [os.path.basename(path)]
    events.cut(str(tmp_path), -1)
    assert os.listdir(tmp_path) == []


def test_cutting_leaves_other_folders_and_files(tmp_path):
    write(tmp_path / "train", [1, 2])
    (tmp_path / "notes.txt").write_text("mine")
    events.cut(str(tmp_path), -1)
    events.cut(str(tmp_path / "nothing"), -1)
    assert steps(values(tmp_path / "train")["x"]) == [1, 2] and (tmp_path / "notes.txt").exists()


# --- the profile

def test_the_asked_steps_are_profiled(tmp_path):
    fit(plain(), tmp_path, 0, 2, "--profile_steps=2,5")
    assert glob.glob(f"{tmp_path}/logs/train/plugins/profile/*/*.xplane.pb")


def test_a_profile_ends_with_the_run(tmp_path):
    model = plain()
    model.fit(data().take(1), verbose=0)
    fit(model, tmp_path, 0, 1, "--profile_steps=2,3")  # a step was done, so that the third is not reached
    assert glob.glob(f"{tmp_path}/logs/train/plugins/profile/*/*.xplane.pb")


@pytest.mark.parametrize("given", ["3", "0,2", "5,4", "a,b", "1,2,3", "-1,2"])
def test_a_profile_of_no_steps_is_refused(given):
    with pytest.raises(UsageError, match="profile_steps"):
        flags.parse(["program", "--workdir=none", f"--profile_steps={given}"])


def test_a_profile_past_the_end_is_refused(tmp_path):
    with pytest.raises(UsageError, match="--profile_steps=9,10: the run has 9 steps"):
        fit(plain(), tmp_path, 0, 3, "--profile_steps=9,10")
