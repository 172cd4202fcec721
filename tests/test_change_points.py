"""The task of levels that jump: each sequence read level by level, what guessing scores, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from santm_tf import tasks
from santm_tf.tasks import TaskError, change_points
from santm_tf.tasks.change_points import HAZARD, NOISE, SHORTEST


def arrays(dataset):
    return [np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True)]


def read(sequence, changes):
    """The steps of each level, cut where it changes."""
    return np.split(sequence, np.flatnonzero(changes))


@given(st.integers(1, 40), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_a_level_lasts_and_jumps_at_its_change(length, seed):
    x, y, changes = (part.numpy() for part in change_points.sequences(4, length, [seed, 1]))
    assert x.shape == (4, length, 4) and y.shape == (4, 1) and changes.shape == (4, length)
    for sequence, target, own in zip(x, y, changes, strict=True):
        levels = read(sequence, own)
        assert all(len(level) >= SHORTEST for level in levels[:-1]) and len(levels[-1])
        assert abs(sequence).max() < 1 + 6 * NOISE
        # The mean of n noisy steps is a level within 6 deviations of itself.
        mistake = 6 * NOISE * sum(len(level) ** -0.5 for level in levels)
        assert target[0] == pytest.approx(sum(level[:, 0].mean() for level in levels), abs=mistake)


def test_levels_last_as_long_as_they_should_and_the_noise_is_what_it_should_be():
    x, _, changes = (part.numpy() for part in change_points.sequences(500, 300, [3, 4]))
    levels = [level for pair in zip(x, changes, strict=True) for level in read(*pair)[:-1]]
    lasted = np.array([len(level) for level in levels])
    assert lasted.mean() == pytest.approx(SHORTEST - 1 + 1 / HAZARD, rel=0.03)  # a little less: they ended
    assert (lasted == SHORTEST).mean() == pytest.approx(HAZARD, rel=0.05)
    assert (lasted == SHORTEST + 1).mean() == pytest.approx(HAZARD * (1 - HAZARD), rel=0.05)
    within = np.concatenate([level - level.mean(0) for level in levels if len(level) > 20])
    assert within.std() == pytest.approx(NOISE, rel=0.03)
    np.testing.assert_allclose(np.var([level[0] for level in levels], 0), 1 / 3 + NOISE**2, rtol=0.03)


@pytest.mark.parametrize("length", [1, 3, 4, 30, 100])
def test_the_target_varies_as_chance_says(length):
    _, y, changes = (part.numpy() for part in change_points.sequences(20_000, length, [5, 6]))
    expected = change_points.expected_levels(length)
    assert 1 + changes.sum() / 20_000 == pytest.approx(expected, rel=0.01)
    assert y.mean() == pytest.approx(0, abs=4 * (expected / 3 / 20_000) ** 0.5)
    assert y.var() == pytest.approx(expected / 3, rel=0.04)


def test_the_average_over_time_does_not_tell_the_target():
    x, y, _ = (part.numpy() for part in change_points.sequences(5000, 100, [7, 8]))
    features = np.concatenate([x.mean(1), np.ones([5000, 1])], 1)
    _, (left,), *_ = np.linalg.lstsq(features, y, rcond=None)
    assert left / 5000 > 0.3 * change_points.expected_levels(100) / 3


def test_the_mean_predictor_scores_chance():
    task = change_points.load(batch_size=64, seed=0, length=50)
    x, y = arrays(task.test)
    assert x.shape == (1280, 50, 4) and y.shape == (1280, 1)
    (mse,) = task.metrics
    mse.update_state(y, np.zeros_like(y))
    assert float(mse.result()) == pytest.approx(task.chance["mse"], rel=0.1)


@pytest.mark.parametrize("option", ["length", "steps_per_epoch"])
def test_what_cannot_work_is_refused_in_one_line(option):
    with pytest.raises(TaskError) as error:
        tasks.load("change_points", batch_size=8, seed=0, **{option: 0})
    assert str(error.value) == f"--{option}=0: --task=change_points needs at least 1"
