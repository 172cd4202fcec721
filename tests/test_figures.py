"""The figures: what is drawn is what the arrays hold, and whoever looks at it is told what it is."""

import io

import matplotlib._pylab_helpers
import numpy as np
import pytest
import tensorflow as tf
from matplotlib.image import imread

from santm_tf import SANTM
from santm_tf.analysis.trace import trace
from santm_tf.training import layer_figures, score_figures

STEPS, SLOTS = 16, 12


def layer(**options):
    made = SANTM(4, **{"memory_slots": SLOTS, "slot_width": 4, "attention_heads": 2, "locality": 2, "seed": 1,
                       "access_rate": 0.5, "jit_compile": False, "read_heads": 2, **options})
    made.build(tf.TensorShape([None, STEPS, 1]))
    return made


@pytest.fixture(scope="module")
def dense():
    """A layer, a batch of which the last row is padding from step 6 on, and its trace."""
    made, x = layer(), np.random.default_rng(0).normal(size=[2, STEPS, 1]).astype(np.float32)
    return made, x, trace(made, x, np.arange(STEPS) < [[STEPS], [6]])


@pytest.fixture(scope="module")
def sparse():
    made, x = layer(memory="sparse", memory_slots=500, top_k=3), np.ones([1, STEPS, 1], np.float32)
    return made, x, trace(made, x)


def shown(figure):
    """The figure, once it is a PNG that is not blank, and whose axes are named."""
    pixels = imread(io.BytesIO(layer_figures.png(figure, dpi=40)))
    assert len(np.unique(pixels[..., :3].reshape(-1, 3), axis=0)) > 5
    assert figure.get_suptitle()
    for axes in figure.axes:
        assert axes.get_xlabel() or axes.get_ylabel() or figure.get_supxlabel() or not axes.axison
    assert not matplotlib._pylab_helpers.Gcf.figs  # nothing is left behind in pyplot
    return figure


def image(axes):
    return np.ma.filled(axes.images[0].get_array(), np.nan)


@pytest.mark.parametrize("kind", ["read", "write"])
def test_addressing_is_the_weights_by_slot_and_access(dense, kind):
    seen = dense[2]
    for row in range(2):
        axes = shown(layer_figures.addressing(seen, row, kind)).axes
        happened = seen.gates[row] > 0
        weights = getattr(seen, f"{kind}_weights")[row, happened]
        for head in range(weights.shape[1]):
            np.testing.assert_allclose(image(axes[head]), weights[:, head].T)
        named = [int(text.get_text()) for text in axes[weights.shape[1] - 1].get_xticklabels()]
        assert named == list(seen.steps[happened])


def test_of_a_sparse_memory_the_slots_most_used_are_shown(sparse):
    seen = sparse[2]
    axes = shown(layer_figures.addressing(seen, 0, "write")).axes[0]
    slots = seen.slots("write", 0, layer_figures.MOST)
    np.testing.assert_allclose(image(axes), seen.over("write", 0, slots)[:, 0].T)
    assert {int(text.get_text()) for text in axes.get_yticklabels()} <= set(slots)
    assert image(axes).sum() > 0.9 * seen.write_weights[0].sum()
    shown(layer_figures.usage(seen))
    shown(layer_figures.attention_band(*sparse[::2], 0))


def test_usage_is_the_mean_over_sequences(dense):
    seen = dense[2]
    of = seen.write_weights, seen.read_weights
    for axes, weights in zip(shown(layer_figures.usage(seen)).axes, of, strict=True):
        heights = [bar.get_height() for bar in axes.patches]
        np.testing.assert_allclose(heights, weights.sum((1, 2)).mean(0), rtol=1e-6)


def test_the_mask_over_training():
    masks = np.random.default_rng(0).random([5, 7]) < 0.4
    drawn, rate = shown(layer_figures.mask_over_training(masks)).axes
    np.testing.assert_array_equal(image(drawn), masks)
    np.testing.assert_allclose(rate.get_lines()[0].get_xdata(), masks.mean(1))


def test_segments_and_accesses_below_the_input(dense):
    _, x, seen = dense
    for row, length in ((0, STEPS), (1, 6)):
        above, below = shown(layer_figures.segments(x, seen, row)).axes
        np.testing.assert_allclose(above.get_lines()[0].get_ydata(), x[row, :length, 0])
        bars, ticks = below.collections
        ends = [path.get_extents().x1 - 0.5 for path in bars.get_paths()]
        expected = np.flatnonzero(seen.boundaries[row, :length])
        np.testing.assert_allclose(ends, np.unique([*expected, length - 1]))
        at = [path.vertices[0, 0] for path in ticks.get_paths()]
        np.testing.assert_allclose(at, seen.steps[seen.steps < length])


def test_segments_of_an_image_bits_channels_and_words(dense):
    _, _, seen = dense
    pixels = np.random.default_rng(1).random([2, STEPS, 1])
    axes, = shown(layer_figures.segments(pixels, seen, 0, side=4)).axes
    np.testing.assert_allclose(image(axes), pixels[0].reshape(4, 4))
    at = axes.collections[1].get_offsets()
    np.testing.assert_array_equal(at[:, 1] * 4 + at[:, 0], seen.steps)

    bits = np.random.default_rng(1).integers(0, 2, [2, STEPS, 5])
    above = shown(layer_figures.segments(bits, seen, 0)).axes[0]
    np.testing.assert_array_equal(image(above), bits[0].T)
    assert above.get_ylabel() == "input bit"
    assert shown(layer_figures.segments(bits + 0.5, seen, 0)).axes[0].get_ylabel() == "input channel"

    tokens = np.arange(2 * STEPS).reshape(2, STEPS)
    drawn = shown(layer_figures.segments(tokens, seen, 0, words="$w{}".format))
    words = list(drawn.axes[0].texts)
    assert [text.get_text() for text in words] == [f"$w{n}" for n in range(STEPS)]
    boxed = [n for n, text in enumerate(words) if text.get_bbox_patch() is not None]
    np.testing.assert_array_equal(boxed, seen.steps)
    assert shown(layer_figures.segments(tokens, seen, 0)).axes[0].get_ylabel() == "token"


def test_nothing_to_show_is_said(dense):
    made, x, _ = dense
    padding = trace(made, x, np.zeros([2, STEPS], bool))
    assert "not accessed" in shown(layer_figures.addressing(padding, 0, "read")).texts[-1].get_text()
    assert "empty" in shown(layer_figures.segments(x, padding, 0)).texts[-1].get_text()


@pytest.mark.parametrize("locality", [2, 6])
def test_the_attention_band_is_the_attention(dense, locality):
    made, x, seen = dense if locality == 2 else (layer(locality=locality), *dense[1:])
    whole = made.recall.attention(seen.memory[:1])[0].numpy()
    drawn = shown(layer_figures.attention_band(made, seen, 0)).axes
    for head in range(2):
        for i, j in np.ndindex(SLOTS, SLOTS):
            away = (j - i + SLOTS // 2) % SLOTS - SLOTS // 2
            at = (away + locality, i) if locality == 2 else (j, i)
            if abs(away) <= locality and i != j:
                assert image(drawn[head])[at] == pytest.approx(whole[head, i, j], rel=1e-5)


def test_the_chebyshev_coefficients(dense):
    made = dense[0]
    axes, = shown(layer_figures.chebyshev(made)).axes
    theta = made.recall.theta.numpy()
    for bars, of_order in zip(axes.containers, theta, strict=True):
        expected = [np.linalg.norm(own) / np.sqrt(len(own)) for own in of_order]
        np.testing.assert_allclose([bar.get_height() for bar in bars], expected, rtol=1e-5)


def test_learning_curves():
    epochs = [{"epoch": n, "seconds": 1.0, "loss": 10.0 ** -n, "accuracy": n / 9, "val_loss": 2.0 ** -n}
              for n in range(9)]
    loss, accuracy = shown(score_figures.learning_curves(epochs)).axes
    assert loss.get_yscale() == "log" and accuracy.get_yscale() == "linear"
    np.testing.assert_allclose([line.get_ydata()[-1] for line in loss.get_lines()], [10.0 ** -8, 2.0 ** -8])
    assert len(accuracy.get_lines()) == 1
    shown(score_figures.learning_curves(epochs[:1]))


def test_the_confusion_matrix():
    matrix = [[3, 1, 0], [0, 4, 0], [2, 0, 0]]
    axes = shown(score_figures.confusion(matrix, ["a", "bbbb", "c"])).axes[0]
    np.testing.assert_allclose(image(axes), [[0.75, 0.25, 0], [0, 1, 0], [1, 0, 0]])
    assert sorted(int(text.get_text()) for text in axes.texts) == [1, 2, 3, 4]
    assert [text.get_text() for text in axes.get_yticklabels()] == ["a", "bbbb", "c"]
    shown(score_figures.confusion(np.eye(50), list(range(50))))


def test_names_are_drawn_as_they_stand():
    """Matplotlib reads what is between two dollars as a formula, and fails where it is none."""
    for name in ("$\\frac$", "$\\nope{$", "a\nb\x1b", "äpfel", "$x$"):
        layer_figures.png(score_figures.confusion(np.eye(2, dtype=int), [name, "b"]))
        layer_figures.png(layer_figures.figure(name))


def test_scores_by_length_place_and_target():
    scores, chance = {5: 0.1, 10: 0.2, 20: 3.0}, {5: 2, 10: 4, 20: 8}
    axes = shown(score_figures.lengths(scores, chance, "length", "wrong_bits", 10)).axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_xydata(), [[5, 0.1], [10, 0.2], [20, 3.0]])
    np.testing.assert_allclose(axes.patches[0].get_extents().transformed(axes.transData.inverted()).x1, 10)
    axes = shown(score_figures.positions(np.array([1.0, 0.5]), 0.25)).axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_xydata(), [[1, 1.0], [2, 0.5]])
    axes = shown(score_figures.agreement(np.array([0.0, 1.0]), np.array([0.1, 0.9]))).axes[0]
    np.testing.assert_allclose(axes.collections[0].get_offsets(), [[0, 0.1], [1, 0.9]])


def test_a_comparison_has_means_and_deviations_over_seeds():
    runs = {label: [[{"val_mse": value} for value in run] for run in of]
            for label, of in {"a": [[1.0, 2.0], [3.0, 6.0, 9.0]], "b": [[5.0]]}.items()}
    axes = shown(score_figures.comparison_curves(runs, ["mse"])).axes[0]
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [2.0, 4.0])
    band = axes.collections[0].get_paths()[0].get_extents()
    np.testing.assert_allclose([band.y0, band.y1], [2 - np.sqrt(2), 4 + 2 * np.sqrt(2)], rtol=1e-6)
    assert len(axes.collections) == 1  # one run has no deviation

    results = {"a": [{"m": 1.0, "n": 0.0}, {"m": 3.0, "n": 0.0}], "b": [{"m": 5.0, "n": 1.0}]}
    panels = shown(score_figures.comparison_bars(results, ["m", "n"])).axes
    for axes, means in zip(panels, ([2, 5], [0, 1]), strict=True):
        np.testing.assert_allclose([bar.get_width() for bar in axes.patches], means)
    shown(score_figures.comparison_bars({str(n): results["a"] for n in range(12)}, ["m"]))
