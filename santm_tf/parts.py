"""From SANTM's arguments to its parts: a string and options, a configuration, or the built part itself."""

import dataclasses

import tensorflow as tf

from santm_tf.ablation_mask import AblationMask
from santm_tf.access import FIXED, AccessMask
from santm_tf.adaptive import AdaptiveAccess
from santm_tf.attention import ChebAttention
from santm_tf.cells import SegmentCell, SegmentLSTMCell
from santm_tf.errors import ArgumentError
from santm_tf.hard_concrete_mask import HardConcreteMask
from santm_tf.keras import keras
from santm_tf.memories import MEMORIES, Memory

KINDS = {"ablation": AblationMask, "hard_concrete": HardConcreteMask}  # of access masks, beside `AccessMask`
# Options that SANTM hands on to a part which a string names: what the part calls them, or its kind.
OPTIONS = {
    "memory": {field.name: kind for kind, sizes in reversed(MEMORIES.items())
               for field in dataclasses.fields(sizes)},
    "access": {"access_rate": "access_rate", "mask_period": "period", "plan_size": "plan_size",
               "mask_surrogate": "surrogate"},
    "recall": {"attention_heads": "heads", "cheb_order": "order", "locality": "locality"},
}


def split_options(arguments):
    """SANTM's further arguments as the options of each part, and Keras' own. None counts as not given."""
    options = {part: {name: arguments.pop(name) for name in names if name in arguments}
               for part, names in OPTIONS.items()}
    return {part: {name: value for name, value in given.items() if value is not None}
            for part, given in options.items()}, arguments


def memory_of(memory, options):
    """The sizes of the external memory, an instance of one of `MEMORIES`' classes.

    Args:
      memory: a key of `MEMORIES`, such an instance, or its `configuration`.
      options: sizes, where memory is a string.

    Raises:
      ArgumentError: another argument, sizes of another kind of memory, or sizes beside an instance.
    """
    made = _given("memory", memory, Memory, options)
    if made is not None:
        return made
    if memory not in MEMORIES:
        raise ArgumentError(f"SANTM: memory={memory!r}; use {' or '.join(map(repr, MEMORIES))}, or sizes "
                            "such as SparseMemory(memory_slots=1024)")
    known = {name: value for name, value in options.items() if hasattr(MEMORIES[memory], name)}
    for name in set(options) - set(known):
        kind = OPTIONS["memory"][name]
        if options[name] != getattr(MEMORIES[kind], name):
            raise ArgumentError(f"SANTM: {name}={options[name]!r}; it needs memory={kind!r}")
    return MEMORIES[memory](**known)


def access_of(access, options, seed, dtype):
    """When to access: of a string its options, the seed and the policy dtype; or as it is given."""
    made = _given("access", access, (AccessMask, AdaptiveAccess), options, dtype)
    if made is not None:
        return made
    rate, period = options.get("access_rate", 1.0), options.get("mask_period")
    if not 0 < rate <= 1:
        raise ArgumentError(f"SANTM: access_rate={rate}; it must be in (0, 1]")
    if period is not None and period < 1:
        raise ArgumentError(f"SANTM: mask_period={period}; it must be at least 1")
    given = {**_renamed("access", options), "seed": seed, "name": "access", "dtype": dtype}
    if access == "adaptive":
        for name in options.keys() - {"access_rate"}:
            raise ArgumentError(f"SANTM: {name}={options[name]!r}; it is of a mask, which access='adaptive' "
                                "has not; leave it out")
        return AdaptiveAccess(**given)
    if access in KINDS:
        given.pop("surrogate", None)
        return KINDS[access](**given)
    if access not in ("learned", *FIXED):
        raise ArgumentError(f"SANTM: access={access!r}; use one of learned, adaptive, "
                            f"{', '.join([*KINDS, *FIXED])}, or an AccessMask or AdaptiveAccess")
    return AccessMask(**given, support=access)


def recall_of(recall, options, slot_width, dtype):
    """The recall's attention, or None for "read", which has no use for the options."""
    if recall == "read":
        return None
    made = _given("recall", recall, ChebAttention, options, dtype)
    if made is not None:
        return made
    if recall != "attention":
        raise ArgumentError(f"SANTM: recall={recall!r}; use 'attention', 'read' or a ChebAttention")
    heads = options.get("attention_heads", 4)
    if heads < 1 or slot_width % heads:
        raise ArgumentError(f"SANTM: attention_heads={heads} does not divide slot_width={slot_width}")
    return ChebAttention(**_renamed("recall", options), name="recall", dtype=dtype)


def bottom_of(controller, units, segment_length, boundaries, dtype):
    """The bottom level's cell, which cuts the input into segments.

    Args:
      controller: None for `SegmentLSTMCell`; a cell that cuts; another Keras cell, which `SegmentCell`
        makes cut; or a `configuration`.
      boundaries: "learned", "change" or "fixed".
    """
    if boundaries not in ("learned", "change", "fixed"):
        raise ArgumentError(f"SANTM: boundaries={boundaries!r}; use 'learned', 'change' or 'fixed'")
    if boundaries == "fixed" and segment_length % 1 != 0:
        raise ArgumentError(f"SANTM: segment_length={segment_length}; boundaries='fixed' needs a whole "
                            "number of steps")
    cut = "learned" if boundaries == "learned" else "given"
    options = {"boundaries": cut, "name": "bottom", "dtype": dtype}
    if controller is None:
        return SegmentLSTMCell(units, segment_length, **options)
    if isinstance(controller, dict):
        controller = from_configuration(controller, dtype)
    if not isinstance(controller, (SegmentCell, SegmentLSTMCell)):
        return SegmentCell(controller, segment_length, **options)
    if controller.boundaries != cut:
        raise ArgumentError(f"SANTM: boundaries={boundaries!r}; the controller's are "
                            f"{controller.boundaries!r}, it needs {cut!r}")
    return controller


def configuration(part):
    """A part as numbers and strings, its precision left to the layer that has it."""
    if isinstance(part, Memory):
        kind = next(kind for kind, sizes in MEMORIES.items() if type(part) is sizes)
        return {"kind": kind, **dataclasses.asdict(part)}
    config = {name: value for name, value in part.get_config().items() if name != "dtype"}
    return {"class_name": keras.utils.get_registered_name(type(part)), "config": config}


def from_configuration(config, dtype=None):
    """The part that `configuration` described."""
    if "kind" in config:
        return MEMORIES[config["kind"]](**{name: v for name, v in config.items() if name != "kind"})
    made = keras.utils.get_registered_object(config["class_name"]) or getattr(
        keras.layers, config["class_name"])
    return made.from_config({**config["config"], "dtype": dtype})


def _given(argument, part, kind, options, dtype=None):
    """A part that is given built or as its configuration, which takes no options; else None."""
    if not isinstance(part, (dict, kind)):
        return None
    for name, value in options.items():
        raise ArgumentError(f"SANTM: {name}={value!r}; {argument} is built already, give it there")
    return from_configuration(part, dtype) if isinstance(part, dict) else part


def _renamed(part, options):
    return {OPTIONS[part][name]: value for name, value in options.items()}


def build(layer, shape):
    """Has a layer make its weights under its own name, unless it has."""
    if not layer.built:
        with tf.name_scope(layer.name):
            layer.build(shape)
