"""The flags of train.py and evaluate.py, in four groups, and how a mistake in one is reported."""

import copy
import re
import sys

from absl import flags

import baselines
import tasks
from santm_tf.access import FIXED, SURROGATES
from santm_tf.paths import ADVICE, is_literal
from santm_tf.projection import L0Projection

FLAGS = flags.FLAGS
MODEL, OPTIMISER, TASK, RUN = GROUPS = ("model", "optimiser", "task", "run")
# A flag file that reproduces a run may be run elsewhere, and once.
UNSAVED = ("workdir", "resume", "dry_run", "profile_steps", "plots", "export_dir", "tflite", "export_xla")
AUTO = "auto"
FIRST = ("task", "data_dir", "model", "units", "memory_slots", "slot_width", "access_rate", "segment_length",
         "epochs", "batch_size", "learning_rate", "seed", "workdir", "resume", "dry_run")  # what --help shows


class UsageError(Exception):
    """A user's mistake: one line that names the flag or file and what would be right."""


class Stopped(Exception):
    """A run that was asked to stop, and did: what to say, and the exit code."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


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
    flags.DEFINE_enum("memory_init", None, ["learned", "constant"], "The memory at the start of a "
                      "sequence (default: santm's dense memory learned, others constant).", **group)
    flags.DEFINE_enum("memory", "dense", ["dense", "sparse"], "santm's: weights over all slots, or top_k "
                      "weights a head at a cost that hardly grows with the slots.", **group)
    _integer("top_k", None, "Weights that a head of a sparse memory keeps (4).", **group)
    flags.DEFINE_bool("allocate", True, "Whether a sparse memory's write heads may take the slot accessed "
                      "longest ago.", **group)
    flags.DEFINE_enum("normaliser", "softmax", ["softmax", "sparsemax"], "What makes a sparse memory's "
                      "weights sum to 1; sparsemax needs tensorflow-addons.", **group)
    flags.DEFINE_enum("search", "auto", ["auto", "exact", "lsh"], "How a sparse memory finds the slots most "
                      "similar to a key: among all, or hashed.", **group)
    _integer("attention_heads", 4, "Heads of the recall's attention; divides slot_width.", **group)
    _integer("cheb_order", 3, "Chebyshev terms of the recall's filter, K.", **group)
    _integer("locality", 4, "Half-width of a slot's neighbourhood, w.", **group)
    flags.DEFINE(_AccessRate(), "access_rate", 1.0, "Share of steps that may access the memory at the end of "
                 "training, in (0, 1]; or auto: the optimum of santm_tf.capacity.",
                 serializer=flags.ArgumentSerializer(), **group)
    _number("retention", 0.99, "For --access_rate=auto: what the controller keeps of its state in a step.",
            lambda v: 0 < v < 1, "must be in (0, 1)", **group)
    _number("initial_access_rate", 1.0, "The same at the start; below 1 they begin at equal gaps.",
            lambda v: 0 < v <= 1, "must be in (0, 1]", **group)
    flags.DEFINE_enum("mask", "learned", ["learned", "hard_concrete", *FIXED], "Which steps "
                      "access the memory: learned by projection or as hard-concrete gates, or fixed from the "
                      "start, at equal gaps or random.", **group)
    flags.DEFINE_enum("mask_surrogate", "sigmoid", list(SURROGATES), "Whose slope the learned "
                      "mask's scores get.", **group)
    flags.DEFINE_enum("mask_schedule", "linear", list(L0Projection.POWERS), "How the access rate falls, "
                      "over the first 60 % of the epochs.", **group)
    _integer("mask_warmup", 0, "Epochs at the initial access rate before it falls.", least=0, **group)
    flags.register_multi_flags_validator(
        ["access_rate", "initial_access_rate"],
        lambda v: v["access_rate"] == AUTO or v["access_rate"] <= v["initial_access_rate"],
        "--access_rate: must be at most --initial_access_rate")
    _integer("mask_period", None, "Steps after which the access mask repeats (default: the length "
             "of a training sequence).", **group)
    _number("segment_length", 4.0, "Expected length of a segment, in steps.",
            lambda v: v >= 1, "must be at least 1", **group)
    flags.DEFINE_enum("boundaries", "learned", ["learned", "fixed"], "Where segments end: where the model "
                      "learns to end them, or every segment_length steps.", **group)
    _integer("max_memory", None, "Longest memory wanted of the LSTMs' gates at first, in steps "
             "(default: mask_period).", **group)
    _number("boundary_penalty", 1.0, "Weight in the loss of the boundary rate's distance from "
            "1/segment_length, squared.",
            lambda v: v >= 0, "must be at least 0", **group)
    _number("dropout", 0.0, "Share of features dropped before the output.",
            lambda v: 0 <= v < 1, "must be in [0, 1)", **group)
    _number("token_dropout", 0.0, "Share of tokens dropped whole (Iyyer et al. 2015).",
            lambda v: 0 <= v < 1, "must be in [0, 1)", **group)
    flags.DEFINE_enum("pooling", "last", ["last", "mean"], "Which outputs name a sequence's class: the last "
                      "step's, or the mean of all.", **group)
    _integer("match_parameters", None, "Choose units so that the model has so many weights, within 5 %.",
             **group)
    _integer("layers", None, "Layers of dilated_lstm (default 3), transformer (6), mamba (2).", **group)
    _number("cost_per_sample", 0.0, "skip_lstm: what each step used adds to the loss.",
            lambda v: v >= 0, "must be at least 0", **group)
    _integer("routes", 4, "drr_lstm: among how many last states the cell picks.", **group)
    _integer("rank", None, "drr_lstm: rank of the recurrent map (default: half the units).", **group)
    _integer("write_interval", None, "uw_ntm, cuw_ntm: steps between writes (default: the optimum for "
             "the length and the slots).", **group)
    flags.DEFINE_enum("positions", "sinusoidal", ["sinusoidal", "learned"], "transformer: positions.",
                      **group)
    flags.DEFINE_bool("causal", False, "transformer: attend to earlier steps only.", **group)
    _integer("feed_forward", None, "transformer: width of the feed-forward part (default: 4 units).",
             **group)
    _integer("patch", 1, "transformer: steps joined to one token.", **group)
    _integer("state_size", 16, "mamba: states per channel.", **group)
    _integer("conv_width", 4, "mamba: width of the convolution.", **group)
    _integer("expand", 2, "mamba: inner width over units.", **group)

    group = {"module_name": OPTIMISER}
    flags.DEFINE_enum("optimizer", "adam", list(OPTIMIZERS), "Which optimiser.", **group)
    _number("learning_rate", 1e-2, "Learning rate at the start.", lambda v: v > 0, "must be above 0",
            **group)
    flags.DEFINE_enum("schedule", "cosine", ["cosine", "constant"],
                      "Learning rate over the run: down to 0 along a cosine, or constant.", **group)
    _number("weight_decay", None, "Decoupled decay of kernels and embeddings (default: the "
            "optimiser's own).",
            lambda v: v is None or v >= 0, "must be at least 0", **group)
    _number("ema", 0.0, "Momentum of the weights' moving average, which they become after every epoch; 0 for "
            "none.", lambda v: 0 <= v < 1, "must be in [0, 1)", **group)
    _number("clip_norm", 1.0, "Gradients' global norm is clipped at this.", lambda v: v > 0,
            "must be above 0", **group)

    group = {"module_name": TASK}
    flags.DEFINE_enum("task", "digits", tasks.NAMES, "Which task.", **group)
    flags.DEFINE_string("data_dir", None, "Folder, or file, of the task's data.", **group)
    flags.DEFINE_bool("augment", None, "digits: distort the training images.", **group)
    _integer("min_length", None, "copy, repeat_copy, priority_sort: shortest sequence.", **group)
    _integer("max_length", None, "The same: longest sequence in training. text: tokens read of a document "
             "(400). speaker: frames at most.", **group)
    _integer("test_length", None, "The same: length of the test sequences.", **group)
    _integer("max_repeats", None, "repeat_copy: most repeats in training (10).", **group)
    _integer("test_repeats", None, "repeat_copy: repeats in the test (max_repeats).", **group)
    _integer("min_items", None, "associative_recall: fewest items (2).", least=2, **group)
    _integer("max_items", None, "associative_recall: most items in training (6).", least=2, **group)
    _integer("test_items", None, "associative_recall: items in the test (max_items).", least=2, **group)
    _integer("test_sequences", None, "associative_recall: sequences in the test (320).", **group)
    _integer("item_vectors", None, "associative_recall: vectors of an item (3).", **group)
    _integer("sorted", None, "priority_sort: how many vectors to give back (16).", **group)
    _integer("bits", None, "Width of a vector of the tasks from Graves et al. 2014.", **group)
    flags.DEFINE_bool("curriculum", None, "The same tasks, copy_memory: begin with short sequences.", **group)
    _integer("curriculum_epochs", None, "Epochs until the longest sequences come (10).", **group)
    _integer("delay", None, "copy_memory: blank steps (200).", **group)
    _integer("length", None, "adding, change_points: steps (50, 100).", least=2, **group)
    flags.DEFINE_float("sampling_period", None, "frequency: milliseconds between samples (1).", **group)
    _integer("pixels_per_step", None, "Image tasks: pixels in one step (1).", **group)
    _integer("train_size", None, "Image tasks: training images used (all).", **group)
    _integer("side", None, "cifar10: side of the images, in pixels (32).", **group)
    flags.DEFINE_enum("level", None, ["word", "char"], "text: what a token is (word).", **group)
    _integer("vocabulary_size", None, "text, words: tokens at most (10000).", least=2, **group)
    _integer("utterances", None, "speaker: recordings joined to one sequence (4).", **group)
    _integer("window", None, "words, chars: steps of a batch (64, 128).", **group)
    _integer("steps_per_epoch", None, "Generated tasks: batches an epoch (200).", **group)

    group = {"module_name": RUN}
    flags.DEFINE_string("workdir", None, "Folder of the run: checkpoints, logs, flags.cfg, "
                        "metrics.json.", **group)
    _integer("epochs", 30, "Passes over the training data.", **group)
    _integer("batch_size", 32, "Sequences a step.", **group)
    _integer("max_steps", None, "Stop after so many steps, whatever the epochs.", **group)
    _number("dynamic_rate", 0.0, "words, chars: also score by dynamic evaluation, learning at this rate from "
            "what has been scored.", lambda v: v >= 0, "must be at least 0", **group)
    _integer("patience", None, "Stop when the validation figure has not become better for so many epochs.",
             **group)
    _number("checkpoint_minutes", 10.0, "Save the run at least so often; it is saved after every epoch too.",
            lambda v: v >= 0, "must be at least 0", **group)
    flags.DEFINE_bool("deterministic", True, "The same command gives the same weights, bit for bit.", **group)
    flags.DEFINE_bool("plots", False, "Also write figures, and a page of them, into workdir; evaluate.py: of "
                      "several workdirs, separated by commas, a comparison.", **group)
    flags.DEFINE_string("export_dir", None, "Export the trained santm to this folder, as a SavedModel.",
                        **group)
    flags.DEFINE_bool("tflite", False, "Export for TensorFlow Lite, too.", **group)
    flags.DEFINE_bool("export_xla", False, "What is exported compiles with XLA: long sequences are faster, "
                      "the first call of a size takes seconds.", **group)
    flags.DEFINE_bool("dry_run", False, "Print the model, its weights, FLOPs and memory; train nothing.",
                      **group)
    flags.DEFINE(_Steps(), "profile_steps", None, "FIRST,LAST: which steps of the run to profile, for "
                 "TensorBoard.", serializer=flags.CsvListSerializer(","), **group)
    flags.DEFINE_integer("seed", 0, "Fixes data, initialisation and order.", lower_bound=0, **group)
    flags.DEFINE_bool("jit_compile", True, "Compile with XLA.", **group)
    flags.DEFINE_bool("resume", False, "Go on from the last checkpoint in workdir, if there is one.",
                      **group)
    for name in ("workdir", "export_dir"):
        flags.register_validator(name, is_literal, ADVICE)


class _Steps(flags.ArgumentParser):
    """The first and the last of some steps, counted from 1."""

    syntactic_help = "FIRST,LAST"

    def parse(self, argument):
        found = re.fullmatch(r"(\d+),(\d+)", argument)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError("give the first and the last step, as in 20,30")
        return int(found[1]), int(found[2])


class _AccessRate(flags.FloatParser):
    """A float in (0, 1], or "auto"."""

    syntactic_help = f'a number in (0, 1], or "{AUTO}"'

    def convert(self, argument):
        return AUTO if argument == AUTO else super().convert(argument)

    def is_outside_bounds(self, value):
        return value != AUTO and not 0 < value <= 1


OPTIMIZERS = {"adam": "Adam", "adamw": "AdamW", "nadam": "Nadam", "rmsprop": "RMSprop", "sgd": "SGD",
              "lamb": "LAMB", "rectified_adam": "RectifiedAdam"}
FROM_ADDONS = ("lamb", "rectified_adam")


def parse(argv):
    """Parses a command line; `--help` and `--helpfull` print it, a wrong flag ends the program with 2."""
    asked = {arg.lstrip("-") for arg in argv[1:] if arg.startswith("-")}
    if asked & {"h", "help", "helpshort", "helpfull"}:
        print(f"usage: {argv[0]} [--flagfile=FILE] [flags]\n")
        print(_all_flags() if "helpfull" in asked else _first_flags())
        sys.exit(0)
    try:
        rest = FLAGS(argv)
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from error
    if len(rest) > 1:
        raise UsageError(f"{rest[1]}: not a flag; flags start with --")
    if not FLAGS.workdir and not FLAGS.dry_run:
        raise UsageError("--workdir: give the folder of the run, for instance --workdir=runs/first")


def _all_flags():
    return "\n\n".join(FLAGS.module_help(group) for group in GROUPS)


def _first_flags():
    lines = []
    for name in FIRST:
        text = FLAGS[name].help.replace("|", ", ")
        if FLAGS[name].default is not None:
            text += f" (default: {str(FLAGS[name].default).lower()})"
        lines.append(flags.text_wrap(f"--{name}: {text}", indent="      ", firstline_indent="  "))
    return "\n".join([*lines, "", "--helpfull lists all flags, by " + ", ".join(GROUPS) + "."])


def forget():
    """Makes every flag as if no command line had been read."""
    for name in FLAGS:
        FLAGS[name].unparse()


def run(main, argv):
    """Runs `main()`. A `UsageError` gives one line on standard error and exit code 2, `Stopped` its own."""
    define()
    try:
        parse(argv)
        main()
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    except Stopped as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(stopped.code)


def with_flags_named(message):
    """A library's `name=value` as the flag `--name=value` that the user gave."""
    return re.sub(r"(?<![\w-])(\w+)=", lambda m: f"--{m[0]}" if m[1] in FLAGS else m[0], message)


def task_options():
    """The flags that only some tasks take, as `{name: value}`."""
    return {flag.name: flag.value for flag in FLAGS.flags_by_module_dict()[TASK]
            if flag.name not in ("task", "data_dir")}


def serialized(group):
    """The flags of a group as `{name: text}`, text being what a flag file holds."""
    return {flag.name: flag.serialize() for flag in FLAGS.flags_by_module_dict()[group]
            if flag.name not in UNSAVED}


def given(*groups):
    """The flags of groups that differ from their defaults, as `{name: text}`, as `serialized`."""
    return {name: text for group in groups for name, text in serialized(group).items()
            if text and text != default(name)}


def default(name):
    """What a flag file holds of a flag that is not given."""
    flag = copy.deepcopy(FLAGS[name])
    flag.unparse()
    return flag.serialize()


def _integer(name, default, text, least=1, **group):
    flags.DEFINE_integer(name, default, text, lower_bound=least, **group)


def _number(name, default, text, holds, message, **group):
    flags.DEFINE_float(name, default, text, **group)
    flags.register_validator(name, holds, message)
