"""Every model of the registry, built from flags."""

import numpy as np
import pytest
import tensorflow as tf

from santm_tf import baselines
from santm_tf.capacity import optimal_access_rate
from santm_tf.keras import keras, name_of, reset_states
from santm_tf.training import flags, models
from santm_tf.training.errors import UsageError
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task


def resolved(*argv):
    """A configuration that is resolved for its task, and the task."""
    config = flags.parse(["program", "--workdir=unused", "--nojit_compile", *argv])
    task = load_task(config)
    return resolve(config, task), task


def compiled(*argv):
    return models.compiled(*resolved(*argv))


@pytest.mark.parametrize("name", baselines.NAMES)
def test_it_is_sized_to_a_number_of_weights(name):
    config, task = resolved(f"--model={name}", "--match_parameters=20000")
    model = models.compiled(config, task)
    assert models.parameters(model) == pytest.approx(20000, rel=0.05)
    finer = config.layer.get("feed_forward")
    keras.utils.set_random_seed(0)  # what a run of the given size begins with
    given = compiled(f"--model={name}", f"--units={config.layer['units']}",
                     *[f"--feed_forward={finer}"] * bool(finer))
    for ours, theirs in zip(model.get_weights(), given.get_weights(), strict=True):
        assert (ours == theirs).all()


def test_a_size_out_of_reach_is_named():
    with pytest.raises(UsageError, match="--match_parameters=50: --model=lstm comes no nearer"):
        compiled("--model=lstm", "--match_parameters=50")


@pytest.mark.parametrize("argv, names", [
    (["--model=uw_ntm", "--task=copy", "--memory_slots=1"], "--memory_slots"),
    (["--model=transformer", "--units=30"], "--attention_heads=4"),
    (["--model=transformer", "--patch=2", "--task=copy"], "--patch=2"),
])
def test_sizes_that_cannot_work_name_their_flag(argv, names):
    with pytest.raises(UsageError, match=names) as error:
        compiled(*argv)
    assert "\n" not in str(error.value)


def test_weight_decay_shrinks_kernels_and_spares_gates_and_masks():
    model = compiled("--units=4", "--optimizer=adamw", "--weight_decay=0.5", "--learning_rate=0.1",
                     "--schedule=constant")
    weights = {name_of(w, model): w for w in model.trainable_weights}
    before = {name: w.numpy() for name, w in weights.items()}
    model.optimizer.apply_gradients([(tf.zeros(w.shape), w) for w in weights.values()])
    for name, w in weights.items():
        spared = any(part in name for part in models.UNDECAYED)
        np.testing.assert_allclose(w, before[name] * (1 if spared else 0.95), rtol=1e-5, err_msg=name)
    assert len(weights) == len(model.trainable_weights)
    assert {name.split("/")[-1] for name in weights} > {"kernel", "bias", "scores"}


def test_after_an_epoch_the_weights_are_their_moving_average():
    found = {}
    for ema in 0.0, 0.9:
        keras.utils.set_random_seed(0)
        model = compiled("--units=4", f"--ema={ema}", "--learning_rate=0.1", "--schedule=constant",
                         "--access_rate=0.5", "--batch_size=600")  # two steps an epoch
        steps = [[w.numpy() for w in model.trainable_weights]]
        for _ in range(2):
            model.optimizer.apply_gradients([(tf.ones(w.shape), w) for w in model.trainable_weights])
            steps.append([w.numpy() for w in model.trainable_weights])
        found[ema] = steps

    def error(*shares):
        rows = zip(model.trainable_weights, *found[0.0], found[0.9][2], strict=True)
        return max(np.abs(averaged - np.average(values, axis=0, weights=shares)).max()
                   for w, *values, averaged in rows if "scores" not in w.name)  # which are projected

    # Keras 2's average begins with the first weights, Keras 3's with those after the first step.
    assert min(error(0.81, 0.09, 0.1), error(0.0, 0.9, 0.1)) < 1e-6


def test_token_dropout_drops_whole_tokens(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be that is the question\n" * 400)
    model = compiled("--task=chars", "--units=4", f"--data_dir={path}", "--token_dropout=0.5",
                     "--batch_size=2", "--mask_period=64")
    embedding, tokens_dropped = model.layers[:2]
    x = tokens_dropped(embedding(tf.ones([2, 128], tf.int32)), training=True)
    kept = np.any(x != 0, -1)
    np.testing.assert_array_equal(kept, np.all(x != 0, -1))
    assert 0.3 < kept.mean() < 0.7
    np.testing.assert_allclose(x[kept][0], 2 * embedding(tf.constant(1)), rtol=1e-6)


def test_input_dropout_drops_numbers_while_training():
    model, x = compiled("--units=4", "--input_dropout=0.5"), tf.ones([8, 64, 1])
    dropped = model.layers[0](x, training=True)
    assert set(np.unique(dropped)) == {0, 2} and 0.4 < np.mean(dropped == 0) < 0.6
    np.testing.assert_array_equal(model.layers[0](x), x)


def test_tokens_have_a_dropout_of_their_own(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be that is the question\n" * 400)
    with pytest.raises(UsageError, match="--input_dropout=0.5: --task=chars has tokens; give --token_"):
        compiled("--task=chars", f"--data_dir={path}", "--input_dropout=0.5")


def test_a_legendre_controller_remembers_a_segment():
    model = compiled("--units=4", "--controller=lmu", "--controller_order=6", "--segment_length=8",
                     "--boundaries=fixed")
    cell = model.layers[0].bottom.cell
    assert (cell.order, cell.theta, cell.recurrent) == (6, 8, False)


@pytest.mark.parametrize("name", ["santm", "lstm", "lnlstm"])
def test_a_language_model_goes_on_from_window_to_window(name, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("to be or not to be that is the question\n" * 400)
    model = compiled(f"--model={name}", "--task=chars", "--units=4", f"--data_dir={path}", "--batch_size=2",
                     "--window=8")
    x = tf.random.stateless_uniform([2, 8], [0, 0], 1, 9, tf.int32)
    first, second = model(x), model(x)
    reset_states(model)
    np.testing.assert_array_equal(model(x), first)
    assert np.abs(first - second)[:, 0].max() > 1e-4


def test_an_automatic_access_rate_is_the_optimum_of_the_idealised_memory():
    config, task = resolved("--access_rate=auto", "--retention=0.9", "--memory_slots=16", "--units=4")
    assert config.access.access_rate == optimal_access_rate(64, 0.9, 16)
    assert resolve(config, task) == config
    compiled(config.texts()["access_rate"], "--units=4")
    config, _ = resolved("--access_rate=auto", "--retention=0.9", "--memory=key_value", "--memory_slots=16")
    assert config.access.access_rate == 16 / 64  # a write takes the oldest slot


def test_a_norm_without_a_limit_clips_nothing():
    def step(limit):
        config, _ = resolved("--model=lstm", "--units=4", "--optimizer=sgd", f"--clip_norm={limit}",
                             "--learning_rate=1", "--schedule=constant")
        weight = tf.Variable([3.0, 4.0])
        models.optimizer(config.optimiser, 1, 1).apply_gradients([(tf.constant([3.0, 4.0]), weight)])
        return weight.numpy()

    np.testing.assert_array_equal(step("inf"), [0, 0])
    np.testing.assert_allclose(step("1"), [2.4, 3.2], rtol=1e-6)
