"""How well boundaries agree, by counting one by one; and where a model's boundaries are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from benchmarks import segments
from santm_tf import SANTM
from santm_tf.keras import keras

BOOLEANS = arrays.arrays(bool, st.tuples(st.just(3), st.integers(1, 8), st.integers(2, 9)))
WITHIN = st.tuples(st.integers(-3, 0), st.integers(0, 3))


@given(BOOLEANS, WITHIN)
@settings(max_examples=80, deadline=None)
def test_agreement_is_what_counting_finds(parts, within):
    cuts, true, valid = parts
    valid[0, 0] = true[0, 0] = True
    found = segments.agreement(cuts, true, valid, within)
    cuts, true = ([(b, t) for b, t in np.argwhere(part & valid)] for part in (cuts, true))
    steps = [(b, t) for b, t in np.argwhere(valid)]
    rate = len(cuts) / len(steps)

    def agree(cut, change):
        return cut[0] == change[0] and within[0] <= cut[1] - change[1] <= within[1]

    def precision(cuts):
        return np.mean([any(agree(cut, change) for change in true) for cut in cuts]) if cuts else 0

    assert found == pytest.approx({
        "rate": rate, "precision": precision(cuts), "chance_precision": precision(steps),
        "recall": np.mean([any(agree(cut, change) for cut in cuts) for change in true]),
        "chance_recall": np.mean([1 - np.prod([1 - rate for step in steps if agree(step, change)])
                                  for change in true])})


def test_random_boundaries_agree_by_chance():
    rng = np.random.default_rng(0)
    cuts, true, valid = (rng.random([400, 300]) < rate for rate in (0.2, 0.05, 0.9))
    found = segments.agreement(cuts, true, valid, (-1, 2))
    assert found["precision"] == pytest.approx(found["chance_precision"], abs=0.01)
    assert found["recall"] == pytest.approx(found["chance_recall"], abs=0.01)


@pytest.mark.parametrize("kind", ["learned", "fixed"])
def test_cuts_are_where_the_model_has_its_boundaries(kind):
    layer = SANTM(8, memory_slots=6, slot_width=4, attention_heads=2, locality=1, mask_period=4,
                  segment_length=3, boundaries=kind, jit_compile=False)
    model = keras.Sequential([keras.layers.Embedding(20, 8), layer])
    model.compile(loss="mse")
    x = np.random.default_rng(0).integers(0, 20, [4, 12])
    if kind == "learned":
        model(x)
        layer.bottom.boundary_kernel.assign(40 * layer.bottom.boundary_kernel)
    rate = model.evaluate(x, np.zeros([4, 8]), verbose=0, return_dict=True)["boundary_rate"]
    cuts = segments.cuts(model, x)
    assert cuts.shape == (4, 12) and 0.1 < rate < 0.9 and cuts.mean() == pytest.approx(rate)


def test_a_text_is_cut_at_its_white_space(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"to be or\nnot to be, " * 400)
    ids, white, valid = segments.sample("chars", str(path))
    assert ids.shape == white.shape == (64, 400 // 64) and valid.all()
    assert white.ravel()[:9].tolist() == [False, False, True, False, False, True, False, False, True]
    assert len(set(ids[white])) == 2 and not set(ids[white]) & set(ids[~white])
