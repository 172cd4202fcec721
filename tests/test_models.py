"""Every model of the registry, built from flags."""

import importlib.util

import pytest

import baselines
import evaluate
from training import flags, models

NAMES = [name for name in baselines.NAMES
         if name != "lnlstm" or importlib.util.find_spec("tensorflow_addons")]


pytestmark = pytest.mark.usefixtures("fresh_flags")


def compiled(*argv):
    flags.parse(["program", "--workdir=unused", "--nojit_compile", *argv])
    return models.compiled(evaluate.load_task())


@pytest.mark.parametrize("name", NAMES)
def test_it_is_sized_to_a_number_of_weights(name):
    model = compiled(f"--model={name}", "--match_parameters=20000")
    assert models.parameters(model) == pytest.approx(20000, rel=0.05)
    given = compiled(f"--model={name}", f"--units={flags.FLAGS.units}",
                     *([f"--feed_forward={flags.FLAGS.feed_forward}"] if flags.FLAGS.feed_forward else []))
    for ours, theirs in zip(model.get_weights(), given.get_weights(), strict=True):
        assert (ours == theirs).all()


def test_a_size_out_of_reach_is_named():
    with pytest.raises(flags.UsageError, match="--match_parameters=50: --model=lstm comes no nearer"):
        compiled("--model=lstm", "--match_parameters=50")


@pytest.mark.parametrize("argv, names", [
    (["--model=uw_ntm", "--task=copy", "--memory_slots=1"], "--memory_slots"),
    (["--model=transformer", "--units=30"], "--attention_heads=4"),
    (["--model=transformer", "--patch=2", "--task=copy"], "--patch=2"),
])
def test_sizes_that_cannot_work_name_their_flag(argv, names):
    with pytest.raises(flags.UsageError, match=names) as error:
        compiled(*argv)
    assert "\n" not in str(error.value)
