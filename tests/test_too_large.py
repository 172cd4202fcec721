"""Numbers without sense, and what this machine has no memory for, are refused at once and in one line."""

import pytest

from santm_tf import machine
from santm_tf.training import flags, models
from santm_tf.training.config import GROUPS, known
from santm_tf.training.errors import UsageError
from santm_tf.training.resolve import resolve
from santm_tf.training.run import load_task

NUMBERS = {option: None for group in GROUPS for owners in known(group).values() for option in owners.values()
           if option.kind in (int, float)}


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: f"{option.name}-{option.default}")
def test_a_number_that_tensorflow_has_not_is_refused(option):
    for text in ("1" + "0" * 18, "-1" + "0" * 18) if option.kind is int else ("inf", "-inf", "nan", "1e39"):
        if text != "inf" or not option.bounds.endswith("inf]"):
            with pytest.raises(ValueError, match=f"^--{option.name}={text}: must be a "):
                option.parse(text)
    assert option.default is None or option.parse(str(option.default)) == option.default


@pytest.mark.parametrize("text, said", [
    ("--seed=4294967296", "must be a whole number in [0, 4294967295]"),
    ("--learning_rate=1e39", "must be a number above 0 and at most 3.402823466e+38"),
    ("--segment_length=inf", "must be a number of at least 1 and at most 3.402823466e+38"),
    ("--epochs=1000000000000000000", "must be a whole number of at least 1 and at most 1000000000"),
    ("--units=9e18", "must be a whole number of at least 1"),
    ("--mask_below=nan", "must be a number"),
])
def test_the_line_says_what_would_be_right(text, said):
    with pytest.raises(UsageError) as error:
        flags.parse(["program", "--workdir=unused", text])
    assert str(error.value) == f"{text}: {said}"


@pytest.mark.parametrize("flag", [
    "--task=repeat_copy --max_length", "--task=repeat_copy --max_repeats", "--task=repeat_copy --test_length",
    "--task=repeat_copy --test_repeats", "--task=associative_recall --max_items",
    "--task=associative_recall --test_items", "--task=associative_recall --item_vectors"])
def test_more_steps_than_can_be_counted_are_refused(flag):
    with pytest.raises(UsageError, match=r"^--task=\w+: its sequences would have [\d,]+ steps; give"):
        load_task(flags.parse(["program", "--workdir=unused", *f"{flag}=1000000000".split()]))


@pytest.mark.parametrize("argv, named", [
    (["--task=change_points", "--length=1000000000"], "--task=change_points: a batch of"),
    (["--task=copy_memory", "--delay=1000000000"], "--task=copy_memory: a batch of --batch_size=32 takes"),
    (["--task=copy", "--bits=1000000000"], "--task=copy: a batch of"),
    (["--task=adding", "--batch_size=1000000000"], "--task=adding: a batch of --batch_size=1000000000 takes"),
    *((["--task=adding", f"--model={model}", "--units=1000000"], "training ") for model in
      ("santm", "lstm", "lnlstm", "skip_lstm", "dilated_lstm", "drr_lstm", "ntm", "uw_ntm", "cuw_ntm",
       "transformer", "mamba", "lmu")),
    (["--task=adding", "--model=ntm", "--read_heads=100000000"], "training "),
    (["--task=adding", "--model=lmu", "--order=100000"], "LMU: --order=100000 takes"),
    (["--task=adding", "--model=ntm", "--match_parameters=1000000000"], "training "),
], ids=lambda value: "-".join(value[1:]) if isinstance(value, list) else None)
def test_what_does_not_fit_says_how_much_it_takes(argv, named, monkeypatch):
    monkeypatch.setattr(machine, "memory", lambda: 2**33)
    with pytest.raises(UsageError) as error:
        config = flags.parse(["program", "--workdir=unused", "--nojit_compile", *argv])
        task = load_task(config)
        models.build(resolve(config, task), task)
    line = str(error.value)
    assert line.startswith(named) and " GiB, and there are 8 GiB; use " in line and "\n" not in line
