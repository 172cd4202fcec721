"""Capacity against brute force over all schedules, and its limits."""

import collections
import itertools

import numpy as np
import pytest

from santm_tf.capacity import main, optimal_access_rate, optimal_accesses, recallable


def content(gaps, retention, slots):
    """What an idealised memory holds, simulated step by step and write by write."""
    memory = 0.0
    for gap in gaps:
        controller = 0.0
        for _ in range(gap):
            controller = retention * controller + 1
        memory = (1 - 1 / slots) * memory + controller
    return memory


def schedules(steps, accesses):
    """All gaps >= 1 that sum to `steps`."""
    for cuts in itertools.combinations(range(1, steps), accesses - 1):
        yield np.diff((0, *cuts, steps))


@pytest.mark.parametrize("steps, accesses", [(6, 1), (6, 3), (12, 4), (12, 12)])
@pytest.mark.parametrize("retention", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("slots", [1, 2, 7, np.inf])
def test_equal_gaps_hold_what_the_formula_says(steps, accesses, retention, slots):
    simulated = content([steps // accesses] * accesses, retention, slots)
    np.testing.assert_allclose(recallable(steps, accesses, retention, slots), simulated, rtol=1e-12)


@pytest.mark.parametrize("steps, accesses", [(8, 2), (12, 3), (12, 4), (12, 6)])
@pytest.mark.parametrize("retention", [0.3, 0.7, 0.95])
@pytest.mark.parametrize("slots", [2, 10, 40, np.inf])
def test_equal_gaps_are_optimal_exactly_where_the_memory_outlasts_a_step(
    steps, accesses, retention, slots
):
    best = max(content(gaps, retention, slots) for gaps in schedules(steps, accesses))
    equal = recallable(steps, accesses, retention, slots)
    if (1 - 1 / slots) ** (accesses - 1) >= retention:
        np.testing.assert_allclose(best, equal, rtol=1e-12)
    else:
        assert best > equal * (1 + 1e-12)


@pytest.mark.parametrize("retention, slots", [(0.3, 2), (0.7, 4), (0.95, 2), (0.95, 40)])
def test_no_schedule_holds_more_than_equal_gaps_averaged_over_orders(retention, slots):
    equal = recallable(9, 3, retention, slots)
    for gaps in schedules(9, 3):
        orders = [content(order, retention, slots) for order in itertools.permutations(gaps)]
        assert np.mean(orders) <= equal * (1 + 1e-12)


def test_where_writes_fade_fast_the_best_schedule_starts_with_short_gaps():
    best = max(schedules(12, 3), key=lambda gaps: content(gaps, 0.95, 2))
    assert list(best) == [1, 1, 10]


@pytest.mark.parametrize("retention", [0.0, 0.5, 0.9, 0.999])
def test_a_memory_that_forgets_nothing_wants_every_step(retention):
    assert optimal_access_rate(200, retention, np.inf) == 1
    assert optimal_access_rate(200, retention, 1e12) == 1
    np.testing.assert_allclose(recallable(200, 200, retention, np.inf), 200)


@pytest.mark.parametrize("slots", [1, 4, 32, 1000])
def test_a_controller_that_forgets_nothing_wants_one_access(slots):
    assert optimal_accesses(200, 1.0, slots) == 1
    assert optimal_accesses(200, 1 - 1e-12, slots) == 1
    np.testing.assert_allclose(recallable(200, 1, 1.0, slots), 200)


def test_the_optimum_lies_between_the_limits():
    optimum = optimal_accesses(784, 0.95, 32)
    held = [content([784 // d] * d, 0.95, 32) for d in (14, 28, 49, 98)]
    assert 28 < optimum < 49
    assert recallable(784, optimum, 0.95, 32) > max(held)


def test_close_to_the_limits_no_digits_are_lost():
    accesses = np.array([1, 10, 100])
    for gap in (1e-9, 1e-13, 1e-16):
        at_one = recallable(100, accesses, 1 - gap, np.inf)
        np.testing.assert_allclose(at_one, 100, rtol=200 * gap + 1e-14)
        forever = recallable(100, accesses, 0.5, 1 / gap)
        np.testing.assert_allclose(
            forever, recallable(100, accesses, 0.5, np.inf), rtol=200 * gap + 1e-14
        )


def asked(steps, accesses, lag, slots, erases):
    """The share of writes that a memory of slots still has after `lag` steps, by writing into it."""
    gap, left = steps / accesses, []
    for phase in np.linspace(0, gap, 1000, endpoint=False):
        # A write at 0, later ones at multiples of the gap, a question at lag - phase after the first.
        memory = np.zeros(slots)
        memory[0] = 1
        for n in range(1, 1 + int(np.floor((lag + phase) / gap))):
            if erases == "oldest":
                memory[n % slots] = 0
            else:
                memory *= 1 - 1 / slots
        left.append(memory.sum())
    return np.mean(left)


@pytest.mark.parametrize("accesses", [4, 10, 15, 24, 60])
@pytest.mark.parametrize("slots", [2, 5, 12])
def test_what_is_asked_after_a_lag_is_there_as_often_as_in_a_memory_that_is_written(accesses, slots):
    wanted = [accesses * asked(60, accesses, lag, slots, "oldest") for lag in (7, 20)]
    held = [recallable(60, accesses, 0.0, slots, "oldest", [lag]) for lag in (7, 20)]
    np.testing.assert_allclose(held, wanted, atol=accesses * 2e-3)
    np.testing.assert_allclose(recallable(60, accesses, 0.0, slots, "oldest", [7, 20]), np.mean(held))


def test_a_share_is_lost_with_each_write_within_a_lag():
    held = recallable(60, 30, 0.0, 5, lags=[8])  # 4 writes later
    np.testing.assert_allclose(held, 30 * asked(60, 30, 8, 5, "share"))


@pytest.mark.parametrize("retention", [0.0, 0.7, 0.99])
@pytest.mark.parametrize("steps, slots, lag", [(60, 16, 30), (784, 33, 392), (50, 11, 40)])
def test_a_memory_that_writes_over_the_oldest_is_written_as_often_as_it_has_slots(
    retention, steps, slots, lag
):
    ring = collections.deque(maxlen=slots)
    for step in range(steps):
        ring.append(step)
    assert len(ring) == recallable(steps, steps, 0.0, slots, "oldest")
    assert optimal_accesses(steps, retention, slots, "oldest") == slots
    assert optimal_accesses(steps, retention, slots, "oldest", [lag]) == (slots - 1) * steps // lag


def test_lags_over_all_that_was_read_ask_for_what_is_there_at_the_end():
    lags = 60 / 15 * np.arange(1, 16) - 60 / 15 / 2  # of what an access took in, on average
    at_end = recallable(60, 15, 0.8, 7)
    assert abs(recallable(60, 15, 0.8, 7, lags=lags) / at_end - (1 - 1 / 7) ** 0.5) < 1e-12


def test_arguments_broadcast():
    held = recallable(64, np.arange(1, 65), np.array([[0.5], [0.9]]), 16)
    assert held.shape == (2, 64)
    assert held[1, 7] == recallable(64, 8, 0.9, 16)


@pytest.mark.parametrize(
    "arguments, name",
    [
        ((0, 1, 0.5, 4), "steps"),
        ((4, 5, 0.5, 4), "accesses"),
        ((4, 0, 0.5, 4), "accesses"),
        ((4, 2, 1.5, 4), "retention"),
        ((4, 2, np.nan, 4), "retention"),
        ((4, 2, 0.5, 0), "slots"),
        ((4, 2, 0.5, 4, "newest"), "erases"),
        ((4, 2, 0.5, 4, "oldest", [0, 3]), "lags"),
    ],
)
def test_a_value_out_of_range_is_named(arguments, name):
    with pytest.raises(ValueError, match=f"^{name} must be .*, got .*$"):
        recallable(*arguments)


def test_the_program_prints_the_optimum_and_a_curve(capsys):
    main(["--steps=784", "--slots=32", "--retention=0.99"])
    first, _, _, *curve = capsys.readouterr().out.strip().split("\n")
    assert first.startswith(f"optimal access rate {16 / 784:.4g}: 16 accesses in 784 steps")
    values = [float(line.split()[1]) for line in curve]
    bars = [line.count("#") for line in curve]
    assert max(values) <= float(recallable(784, 16, 0.99, 32))
    assert bars[values.index(max(values))] == max(bars)


@pytest.mark.parametrize("argv", [["--steps=0"], ["--slots=0"], ["--retention=1.5"], ["--retention=-1"]])
def test_the_program_names_what_is_wrong(argv, capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["--steps=10", "--slots=4", "--retention=0.9", *argv])
    assert argv[0].split("=")[0] in capsys.readouterr().err.strip().split("\n")[-1]
