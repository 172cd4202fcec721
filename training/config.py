"""What a run was asked for, as one frozen configuration, between the flags and everything below them.

A model's options are those of its `make`, a task's those of its loader. The others are the fields of the
classes here. Each is a flag of its name. `dataclasses.replace` makes variants. To import this imports no
TensorFlow.
"""

import dataclasses
import functools
import os
import re
import types
from collections.abc import Mapping
from typing import Annotated, Literal

from santm_tf import baselines, tasks
from santm_tf.tasks.options import Option, read
from santm_tf.training.errors import UsageError

GROUPS = MODEL, OPTIMISER, TASK, RUN = "model", "optimiser", "task", "run"
# An option that has no effect unless another has one of these values, or, where it is None, is given.
NEEDS = {"retention": ("access_rate", "auto"), "mask_surrogate": ("mask", "learned"),
         "allocate": ("memory", "sparse"), "normaliser": ("memory", "sparse"), "search": ("memory", "sparse"),
         "key_width": ("memory", "key_value"), "reads_on": ("memory", "key_value"),
         "memory_init": ("memory", ("dense", "sparse")), "controller_order": ("controller", "lmu"),
         **dict.fromkeys(["attention_heads", "cheb_order", "locality"], ("recall", "attention")),
         "boundary_penalty": ("boundaries", ("learned", "change")),
         "curriculum_epochs": ("curriculum", True), "tflite": ("export_dir", None),
         "export_xla": ("export_dir", None), "devices": ("strategy", "mirrored"),
         "join_seconds": ("strategy", ("mirrored", "multiworker"))}
FALLING = "mask_schedule", "mask_warmup"  # of an access rate that falls
FALL = "an --access_rate below --initial_access_rate and a --mask that is not fixed"
FIXED = "uniform", "random"  # masks; as in santm_tf.access, which imports TensorFlow
FOLDERS = {"workdir", "export_dir"}  # paths of a `Session`


@dataclasses.dataclass(frozen=True)
class Access:
    """How the share of steps that may access the memory falls, in a model with an access mask.

    Args:
      access_rate: Share of steps that may access the memory at the end of training; or auto: the optimum of
        santm_tf.capacity.
      initial_access_rate: The same at the start; below 1 they begin at equal gaps.
      retention: For --access_rate=auto: what the controller keeps of its state in a step.
      mask_schedule: How the access rate falls, over the first 60 % of the epochs.
      mask_warmup: Epochs at the initial access rate before it falls.
      mask_below: Training loss that the fall waits for, until halfway through its epochs at most.
    """

    access_rate: Annotated[float, "(0, 1]"] | Literal["auto"] = 1.0
    initial_access_rate: Annotated[float, "(0, 1]"] = 1.0
    retention: Annotated[float, "(0, 1)"] = 0.99
    mask_schedule: Literal["linear", "cubic"] = "linear"
    mask_warmup: Annotated[int, "[0, inf)"] = 0
    mask_below: float | None = None


@dataclasses.dataclass(frozen=True)
class Around:
    """What surrounds a model's layer.

    Args:
      embedding: Width of a token's embedding (default: units).
      token_dropout: Share of tokens dropped whole (Iyyer et al. 2015).
      input_dropout: Share of a sequence's numbers dropped, each by itself.
      pooling: Which outputs name a sequence's class: the last step's, or the mean of all.
      match_parameters: Choose units so that the model has so many weights, within 5 %.
    """

    embedding: int | None = None
    token_dropout: Annotated[float, "[0, 1)"] = 0.0
    input_dropout: Annotated[float, "[0, 1)"] = 0.0
    pooling: Literal["last", "mean"] = "last"
    match_parameters: int | None = None


@dataclasses.dataclass(frozen=True)
class Optimiser:
    """The optimiser, and how its learning rate falls.

    Args:
      optimizer: Which optimiser.
      learning_rate: Learning rate at the start.
      schedule: Learning rate over the run: down to 0 along a cosine, or constant.
      weight_decay: Decoupled decay of kernels and embeddings (default: the optimiser's own).
      ema: Momentum of the weights' moving average, which they become after every epoch; 0 for none.
      clip_norm: Gradients' global norm is clipped at this; inf: not at all.
    """

    optimizer: Literal["adam", "adamw", "nadam", "rmsprop", "sgd", "lamb", "rectified_adam"] = "adam"
    learning_rate: Annotated[float, "(0, inf)"] = 1e-2
    schedule: Literal["cosine", "constant"] = "cosine"
    weight_decay: Annotated[float, "[0, inf)"] | None = None
    ema: Annotated[float, "[0, 1)"] = 0.0
    clip_norm: Annotated[float, "(0, inf]"] = 1.0


@dataclasses.dataclass(frozen=True)
class Run:
    """How long and on what a run trains.

    Args:
      epochs: Passes over the training data.
      batch_size: Sequences a step.
      max_steps: Stop after so many steps, whatever the epochs.
      dynamic_rate: words, chars: also score by dynamic evaluation, learning at this rate from what has been
        scored.
      patience: Stop when the validation figure has not become better for so many epochs.
      checkpoint_minutes: Save the run at least so often; it is saved after every epoch too.
      deterministic: The same command gives the same weights, bit for bit.
      seed: Fixes data, initialisation and order.
      jit_compile: Compile with XLA.
    """

    epochs: int = 30
    batch_size: int = 32
    max_steps: int | None = None
    dynamic_rate: Annotated[float, "[0, inf)"] = 0.0
    patience: int | None = None
    checkpoint_minutes: Annotated[float, "[0, inf)"] = 10.0
    deterministic: bool = True
    seed: Annotated[int, "[0, 4294967295]"] = 0
    jit_compile: bool = True


@dataclasses.dataclass(frozen=True)
class Session:
    """What concerns this process alone. The flag file that reproduces a run does not have it.

    Args:
      workdir: Folder of the run: checkpoints, logs, flags.cfg, metrics.json.
      resume: Go on from the last checkpoint in workdir, if there is one.
      dry_run: Print the model, its weights, FLOPs and memory; train nothing.
      plots: Also write figures, and a page of them, into workdir; evaluate.py: of several workdirs, separated
        by commas, a comparison.
      export_dir: Export the trained model to this folder, as a SavedModel.
      tflite: Export for TensorFlow Lite, too.
      export_xla: What is exported compiles with XLA: long sequences are faster, the first call of a size
        takes seconds.
      profile_steps: FIRST,LAST: which steps of the run to profile, for TensorBoard.
      strategy: Where to train: in this process; on all GPUs of this machine, or --devices CPUs; or as one of
        several workers that TF_CONFIG or Slurm names. They share every batch.
      devices: For --strategy=mirrored: how many logical CPUs instead of the GPUs.
      join_seconds: How long workers wait for each other at the start.
      max_data_gb: GB of data that are read into memory at most, as they are once unpacked.
      compile_cache: Keep what XLA compiles for the CPU in ~/.cache/santm_tf ($XDG_CACHE_HOME), and take it
        from there.
    """

    workdir: str | None = None
    resume: bool = False
    dry_run: bool = False
    plots: bool = False
    export_dir: str | None = None
    tflite: bool = False
    export_xla: bool = False
    profile_steps: str | None = None
    strategy: Literal["none", "mirrored", "multiworker"] = "none"
    devices: int | None = None
    join_seconds: Annotated[float, "(0, inf)"] = 120.0
    max_data_gb: Annotated[float, "(0, inf)"] = 4.0
    compile_cache: bool = True


CHOICES = {group: Option(group, default, f"Which {group}: {', '.join(names)}.", choices=names) for
           group, default, names in ((MODEL, "santm", baselines.NAMES), (TASK, "digits", tasks.NAMES))}
PARTS = {"access": (Access, MODEL), "around": (Around, MODEL), "optimiser": (Optimiser, OPTIMISER),
         "run": (Run, RUN), "session": (Session, RUN)}


@dataclasses.dataclass(frozen=True)
class Config:
    """One run: its model and task by name with their options, and the parts above.

    Args:
      model, layer: the model's name, and its options but those of `access`.
      task, data: the task's name, and its options; paths are absolute, so that a run is evaluated from any
        folder.
      access: None for a model without an access mask.
      asked: what was given, `{name: value}`; the others are defaults.

    >>> config = configured({"model": "lstm", "task": "adding", "units": 8})
    >>> config.layer["units"], config.data["length"], config.run.epochs
    (8, 50, 30)
    """

    model: str
    layer: Mapping
    task: str
    data: Mapping
    around: Around
    optimiser: Optimiser
    run: Run
    session: Session
    access: Access | None = None
    asked: Mapping = dataclasses.field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self):
        data = dict(self.data)
        for name in tasks.PATHS & data.keys():
            if data[name]:
                data[name] = os.path.abspath(os.path.expanduser(data[name]))
        for name, options in ("layer", dict(self.layer)), ("data", data):
            object.__setattr__(self, name, types.MappingProxyType(options))

    @property
    def made_with(self):
        """The options that the model's `make` takes, `{name: value}`."""
        access = vars(self.access) if self.access else {}
        return {**self.layer, **{name: access[name] for name in _of_make(self.model) if name in access}}

    @property
    def profiled(self):
        """The first and the last step to profile, or None; `(0, 0)` for a text that names none."""
        text = self.session.profile_steps
        found = re.fullmatch(r"(\d+),(\d+)", text or "")
        return tuple(map(int, found.groups())) if found else (0, 0) if text else None

    def values(self, *groups):
        """The options that reproduce the run, `{Option: value}`, in order; of these groups or of all."""
        held = {"model": self.model, "task": self.task, **self.layer, **self.data}
        for part in PARTS:
            held |= vars(getattr(self, part) or types.SimpleNamespace())
        return {option: held[option.name] for group in groups or GROUPS
                for option in options(self.model, self.task, group).values()
                if option.name not in read(_where(Session))}

    def texts(self, *groups):
        """The same as in a flag file, `{name: text}`."""
        return {option.name: option.text(value) for option, value in self.values(*groups).items()}

    def given(self, *groups):
        """Those that differ from their defaults, `{Option: text}`."""
        return {option: option.text(value) for option, value in self.values(*groups).items()
                if value != option.default}


def options(model, task, group):
    """The options of a group that a model and a task take, `{name: Option}`."""
    parts = {group: CHOICES[group]} if group in CHOICES else {}
    if group == MODEL:
        parts |= _of_make(model)
    if group == TASK:
        parts |= tasks.options(task)
    for name, (part, of) in PARTS.items():
        if of == group and (name != "access" or "access_rate" in parts):
            parts |= read(_where(part))
    return parts


@functools.cache
def known(group):
    """All options of a group, by name and by the model or task that has them: `{name: {owner: Option}}`."""
    found = {}
    for owner in {MODEL: baselines.NAMES, TASK: tasks.NAMES}.get(group, ("",)):
        for name, option in options(owner, owner, group).items():
            found.setdefault(name, {})[owner] = option
    return found


def configured(given, lenient=()):
    """The configuration of options by name; what is not given has its default.

    Args:
      given: `{name: value}`, or texts as flags have them.
      lenient: names that are left out where they have no use, as in a flag file of an earlier version.

    Raises:
      UsageError: what cannot be, or has no use.
    """
    if given.get(TASK) in tasks.ALIASES:
        given = {**given, TASK: tasks.ALIASES[given[TASK]]}
    model, task = (_parsed(option, given.get(option.name, option.default)) for option in CHOICES.values())
    taken = {name: option for group in GROUPS for name, option in options(model, task, group).items()}
    values = {name: _parsed(option, given.get(name, option.default)) for name, option in taken.items()}
    for name, text in given.items():
        if name not in taken and name not in lenient and not _is_default(name, text):
            raise UsageError(tasks.unknown(task, name, text) if name in known(TASK) else
                             f"{_text(name, text)}: --model={model} does not use it; leave it out")
    for name, needed in _without_effect(values):
        if values[name] != taken[name].default:
            if name not in lenient:
                raise UsageError(f"{_text(name, values[name])}: needs {needed}; add it, or leave this out")
            values[name] = taken[name].default
    parts = {name: part(**{field: values[field] for field in read(_where(part))})
             for name, (part, _) in PARTS.items() if name != "access" or "access_rate" in values}
    layer = {name: values[name] for name in _of_make(model) if name not in read(_where(Access))}
    config = Config(model, layer, task, {name: values[name] for name in tasks.options(task)}, **parts,
                    asked=dict(given))
    _check(config)
    return config


def _without_effect(values):
    """The options that have no effect among others, each with what it needs."""
    for name, (other, value) in NEEDS.items():
        if name in values and other in values:
            wanted = value if isinstance(value, tuple) else (value,)
            if values[other] is None if value is None else values[other] not in wanted:
                yield name, " or ".join(_text(other, one) or f"--{other}" for one in wanted)
    if "mask" in values and "access_rate" in values and not _falls(values):
        yield from ((name, FALL) for name in FALLING)


def _falls(values):
    """Whether the access rate comes down in training."""
    rate = values["access_rate"]
    return values["mask"] not in FIXED and (rate == "auto" or rate < values["initial_access_rate"])


def _text(name, value):
    return Option(name, None).text(value)


def _parsed(option, value):
    try:
        return option.parse(value) if isinstance(value, str | bool) else value
    except ValueError as error:
        raise UsageError(str(error)) from error


def _is_default(name, value):
    """Whether an option, whoever takes it, has this value by default."""
    owners = next(found[name] for found in map(known, GROUPS) if name in found)
    return any(_parsed(option, value) == option.default for option in owners.values())


def _check(config):
    """Refuses options that do not go together."""
    access, session = config.access, config.session
    if access and access.access_rate != "auto" and access.access_rate > access.initial_access_rate:
        raise UsageError(f"--access_rate={access.access_rate}: must be at most "
                         f"--initial_access_rate={access.initial_access_rate}")
    first, last = config.profiled or (1, 1)
    if not 1 <= first <= last:
        raise UsageError(f"--profile_steps={session.profile_steps}: give the first and the last step, as in "
                         "20,30")


def _of_make(model):
    return read(f"{baselines.MODELS[model]}:make")


def _where(part):
    return f"{part.__module__}:{part.__name__}"
