"""From SANTM's arguments to its parts: a string and options, a configuration, or the built part itself."""

import dataclasses

import tensorflow as tf

from santm_tf.access import FIXED, AccessMask
from santm_tf.attention import ChebAttention
from santm_tf.cells import SegmentCell, SegmentLSTMCell
from santm_tf.errors import ArgumentError
from santm_tf.hard_concrete import HardConcreteMask
from santm_tf.memories import MEMORIES, Memory

# Options that SANTM hands on to a part which is named by a string, and what they are called there.
ACCESS_OPTIONS = {"access_rate": "access_rate", "mask_period": "period", "plan_size": "plan_size",
                  "mask_surrogate": "surrogate"}
RECALL_OPTIONS = {"attention_heads": "heads", "cheb_order": "order", "locality": "locality"}
MEMORY_OPTIONS = {field.name: kind for kind, sizes in reversed(MEMORIES.items())
                  for field in dataclasses.fields(sizes)}


def taken(arguments):
    """SANTM's further arguments as options of parts, and Keras' own. None counts as not given."""
    options = {name: arguments.pop(name) for name in list(arguments)
               if name in ACCESS_OPTIONS or name in RECALL_OPTIONS or name in MEMORY_OPTIONS}
    return {name: value for name, value in options.items() if value is not None}, arguments


def memory_of(memory, options):
    """The sizes of the external memory, an instance of one of `MEMORIES`' classes.

    Args:
      memory: a key of `MEMORIES`, its instance, or `{"kind": key, **sizes}`.
      options: which may have sizes, where memory is a string.

    Raises:
      ArgumentError: another argument, or sizes of another kind of memory.
    """
    given = {name: value for name, value in options.items() if name in MEMORY_OPTIONS}
    if isinstance(memory, dict):
        memory = MEMORIES[memory["kind"]](**{k: v for k, v in memory.items() if k != "kind"})
    if isinstance(memory, Memory):
        _none_left("memory", given)
        return memory
    if memory not in MEMORIES:
        raise ArgumentError(f"SANTM: memory={memory!r}; use {' or '.join(map(repr, MEMORIES))}, or sizes "
                            "such as SparseMemory(memory_slots=1024)")
    known = {field.name for field in dataclasses.fields(MEMORIES[memory])}
    for name in set(given) - known:
        kind = MEMORY_OPTIONS[name]
        if given[name] != getattr(MEMORIES[kind](), name):
            raise ArgumentError(f"SANTM: {name}={given[name]!r}; it needs memory={kind!r}")
    return MEMORIES[memory](**{name: value for name, value in given.items() if name in known})


def access_of(access, options, seed, dtype):
    """The access mask.

    Args:
      access: "learned", "uniform", "random" or "hard_concrete", an `AccessMask`, or its `configuration`.
      options: see `memory_of`. seed: of a mask that is made here. dtype: its policy.
    """
    given = {ACCESS_OPTIONS[name]: value for name, value in options.items() if name in ACCESS_OPTIONS}
    rate, period = given.get("access_rate", 1.0), given.get("period")
    if isinstance(access, (dict, AccessMask)):
        _none_left("access", {name: options[name] for name in ACCESS_OPTIONS if name in options})
        return from_configuration(access, dtype) if isinstance(access, dict) else access
    if not 0 < rate <= 1:
        raise ArgumentError(f"SANTM: access_rate={rate}; it must be in (0, 1]")
    if period is not None and period < 1:
        raise ArgumentError(f"SANTM: mask_period={period}; it must be at least 1")
    if access == "hard_concrete":
        given.pop("surrogate", None)
        return HardConcreteMask(**given, seed=seed, name="access", dtype=dtype)
    if access not in ("learned", *FIXED):
        raise ArgumentError(f"SANTM: access={access!r}; use one of learned, {', '.join(FIXED)}, "
                            "hard_concrete, or an AccessMask")
    return AccessMask(**given, support=access, seed=seed, name="access", dtype=dtype)


def recall_of(recall, options, slot_width, dtype):
    """The recall's attention, or None for the plain vectors read.

    Args:
      recall: "attention" or "read", a `ChebAttention`, or its `configuration`.
      options: see `memory_of`; "read" has no use for them. slot_width: of the memory.
      dtype: the policy of what is made here.
    """
    given = {RECALL_OPTIONS[name]: value for name, value in options.items() if name in RECALL_OPTIONS}
    if recall == "read":
        return None
    if recall == "attention":
        heads = given.get("heads", 4)
        if heads < 1 or slot_width % heads:
            raise ArgumentError(f"SANTM: attention_heads={heads} does not divide slot_width={slot_width}")
        return ChebAttention(**given, name="recall", dtype=dtype)
    if not isinstance(recall, (dict, ChebAttention)):
        raise ArgumentError(f"SANTM: recall={recall!r}; use 'attention', 'read' or a ChebAttention")
    _none_left("recall", {name: options[name] for name in RECALL_OPTIONS if name in options})
    return from_configuration(recall, dtype) if isinstance(recall, dict) else recall


def bottom_of(controller, units, segment_length, boundaries, dtype):
    """The bottom level's cell, which cuts the input into segments.

    Args:
      controller: None for `SegmentLSTMCell`; a cell that cuts; another Keras cell, which `SegmentCell`
        makes cut; or a `configuration`.
      boundaries: "learned" or "fixed". dtype: the policy of what is made here.
    """
    if boundaries not in ("learned", "fixed"):
        raise ArgumentError(f"SANTM: boundaries={boundaries!r}; use 'learned' or 'fixed'")
    if boundaries == "fixed" and segment_length % 1 != 0:
        raise ArgumentError(f"SANTM: segment_length={segment_length}; boundaries='fixed' needs a whole "
                            "number of steps")
    cut = "given" if boundaries == "fixed" else "learned"
    options = {"boundaries": cut, "name": "bottom", "dtype": dtype}
    if controller is None:
        return SegmentLSTMCell(units, segment_length, **options)
    if isinstance(controller, dict):
        controller = from_configuration(controller, dtype)
    if isinstance(controller, (SegmentCell, SegmentLSTMCell)):
        if controller.boundaries != cut:
            raise ArgumentError(f"SANTM: boundaries={boundaries!r}; the controller's are "
                                f"{controller.boundaries!r}, it needs {cut!r}")
        return controller
    return SegmentCell(controller, segment_length, **options)


def configuration(part):
    """A part as numbers and strings, its precision left to the layer that has it."""
    if isinstance(part, Memory):
        kind = next(kind for kind, sizes in MEMORIES.items() if type(part) is sizes)
        return {"kind": kind, **dataclasses.asdict(part)}
    config = {name: value for name, value in part.get_config().items() if name != "dtype"}
    return {"class_name": tf.keras.utils.get_registered_name(type(part)), "config": config}


def from_configuration(config, dtype):
    """The part that `configuration` described."""
    made = tf.keras.utils.get_registered_object(config["class_name"]) or getattr(
        tf.keras.layers, config["class_name"])
    return made.from_config({**config["config"], "dtype": dtype})


def _none_left(part, given):
    if given:
        name, value = next(iter(given.items()))
        raise ArgumentError(f"SANTM: {name}={value!r}; {part} is built already, give it there")
