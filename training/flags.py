"""The flags of train.py and evaluate.py, in four groups, and how a mistake in one is reported."""

import re
import sys

from absl import flags

import baselines
import tasks

FLAGS = flags.FLAGS
MODEL, OPTIMISER, TASK, RUN = GROUPS = ("model", "optimiser", "task", "run")
UNSAVED = ("workdir", "resume")  # a flag file that reproduces a run may be run elsewhere


class UsageError(Exception):
    """A user's mistake: one line that names the flag or file and what would be right."""


def define():
    """Defines every flag, once."""
    if "model" in FLAGS:
        return
    group = {"module_name": MODEL}
    flags.DEFINE_enum("model", "santm", baselines.NAMES, "Which model.", **group)
    _integer("units", 32, "Units of every level, and of the output.", **group)
    _integer("embedding", None, "Width of a token's embedding (default: units).", **group)
    _integer("memory_slots", 32, "Slots of the external memory, N.", least=2, **group)
    _integer("slot_width", 32, "Width of a slot, W.", **group)
    _integer("read_heads", 1, "Read heads.", **group)
    _integer("write_heads", 1, "Write heads.", **group)
    _integer("shift_range", 1, "Furthest shift of a head, in slots.", least=0, **group)
    flags.DEFINE_enum("memory_init", "learned", ["learned", "constant"],
                      "The memory at the start of a sequence.", **group)
    _integer("attention_heads", 4, "Heads of the recall's attention; divides slot_width.", **group)
    _integer("cheb_order", 3, "Chebyshev terms of the recall's filter, K.", **group)
    _integer("locality", 4, "Half-width of a slot's neighbourhood, w.", **group)
    _number("access_rate", 1.0, "Share of steps that access the memory at the end of training, in (0, 1].",
            lambda v: 0 < v <= 1, "must be in (0, 1]", **group)
    _integer("mask_period", None, "Steps after which the access mask repeats (default: the length "
             "of a training sequence).", **group)
    _number("segment_length", 4.0, "Expected length of a segment, in steps.",
            lambda v: v >= 1, "must be at least 1", **group)
    _integer("max_memory", None, "Longest memory wanted of the LSTMs' gates at first, in steps "
             "(default: mask_period).", **group)
    _number("boundary_penalty", 1.0, "Weight in the loss of the boundary rate's distance from "
            "1/segment_length, squared.",
            lambda v: v >= 0, "must be at least 0", **group)
    _number("dropout", 0.0, "Share of features dropped before the output.",
            lambda v: 0 <= v < 1, "must be in [0, 1)", **group)

    group = {"module_name": OPTIMISER}
    flags.DEFINE_enum("optimizer", "adam", list(OPTIMIZERS), "Which optimiser.", **group)
    _number("learning_rate", 1e-2, "Learning rate at the start.", lambda v: v > 0, "must be above 0",
            **group)
    flags.DEFINE_enum("schedule", "cosine", ["cosine", "constant"],
                      "Learning rate over the run: down to 0 along a cosine, or constant.", **group)
    _number("clip_norm", 1.0, "Gradients' global norm is clipped at this.", lambda v: v > 0,
            "must be above 0", **group)

    group = {"module_name": TASK}
    flags.DEFINE_enum("task", "digits", tasks.NAMES, "Which task.", **group)
    flags.DEFINE_string("data_dir", None, "Folder, or file, of the task's data.", **group)
    flags.DEFINE_bool("augment", None, "digits: move training images by up to a pixel.", **group)
    _integer("min_length", None, "copy: shortest sequence.", **group)
    _integer("max_length", None, "copy: longest sequence in training.", **group)
    _integer("test_length", None, "copy: length of the test sequences.", **group)
    _integer("bits", None, "copy: width of a vector.", **group)
    _integer("steps_per_epoch", None, "copy: batches an epoch.", **group)

    group = {"module_name": RUN}
    flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, flags.cfg, "
                        "metrics.json.", **group)
    _integer("epochs", 30, "Passes over the training data.", **group)
    _integer("batch_size", 32, "Sequences a step.", **group)
    _integer("max_steps", None, "Stop after so many steps, whatever the epochs.", **group)
    flags.DEFINE_integer("seed", 0, "Fixes data, initialisation and order.", lower_bound=0, **group)
    flags.DEFINE_bool("jit_compile", True, "Compile with XLA.", **group)
    flags.DEFINE_bool("resume", False, "Go on from the last checkpoint in workdir, if there is one.",
                      **group)


OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "nadam": "Nadam", "rmsprop": "RMSprop", "sgd": "SGD",
              "lamb": "LAMB", "rectified_adam": "RectifiedAdam"}
FROM_ADDONS = ("lamb", "rectified_adam")


def parse(argv):
    """Parses a command line; `--help` prints the groups, a wrong flag ends the program with 2."""
    if {"-h", "-help", "--help", "--helpshort"} & set(argv[1:]):
        print(f"usage: {argv[0]} [--flagfile=FILE] [flags]\n")
        print("\n\n".join(FLAGS.module_help(group) for group in GROUPS))
        sys.exit(0)
    try:
        rest = FLAGS(argv)
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from error
    if len(rest) > 1:
        raise UsageError(f"{rest[1]}: not a flag; flags start with --")
    if not FLAGS.workdir:
        raise UsageError("--workdir: give the folder of the run, for instance --workdir=runs/first")


def run(main, argv):
    """Runs `main()`; a `UsageError` gives one line on standard error and the exit code 2."""
    define()
    try:
        parse(argv)
        main()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def with_flags_named(message):
    """A library's `name=value` as the flag `--name=value` that the user gave."""
    return re.sub(r"(?<![\w-])(\w+)=", lambda m: f"--{m[0]}" if m[1] in FLAGS else m[0], message)


def serialized(group):
    """The flags of a group as `{name: text}`, text being what a flag file holds."""
    return {flag.name: flag.serialize() for flag in FLAGS.flags_by_module_dict()[group]
            if flag.name not in UNSAVED}


def _integer(name, default, text, least=1, **group):
    flags.DEFINE_integer(name, default, text, lower_bound=least, **group)


def _number(name, default, text, holds, message, **group):
    flags.DEFINE_float(name, default, text, **group)
    flags.register_validator(name, holds, message)
