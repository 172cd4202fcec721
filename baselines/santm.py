"""SANTM from flags."""

from santm_tf import SANTM
from santm_tf.access import FIXED


def make(flags, *, steps, return_sequences, stateful=False):
    return SANTM(
        flags.units, memory_slots=flags.memory_slots, slot_width=flags.slot_width,
        read_heads=flags.read_heads, write_heads=flags.write_heads, shift_range=flags.shift_range,
        memory_init=flags.memory_init, memory=flags.memory, top_k=flags.top_k, allocate=flags.allocate,
        normaliser=flags.normaliser, search=flags.search, attention_heads=flags.attention_heads,
        cheb_order=flags.cheb_order, locality=flags.locality,
        mask_period=flags.mask_period or steps, access_mask=flags.mask, mask_surrogate=flags.mask_surrogate,
        access_rate=flags.access_rate if flags.mask in FIXED else flags.initial_access_rate,
        segment_length=flags.segment_length, boundaries=flags.boundaries, max_steps=flags.max_memory,
        boundary_penalty=flags.boundary_penalty, dropout=flags.dropout,
        return_sequences=return_sequences, stateful=stateful, jit_compile=flags.jit_compile, seed=flags.seed)
