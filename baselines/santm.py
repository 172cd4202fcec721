"""SANTM (`santm_tf.SANTM`) among the models."""

from typing import Annotated, Literal

from santm_tf import SANTM
from santm_tf.access import FIXED
from santm_tf.analysis.cost import santm as cost
from santm_tf.baselines.lmu import LMUCell
from santm_tf.baselines.model import Model
from santm_tf.errors import ArgumentError


def make(units: int = 32, memory_slots: Annotated[int, "[2, inf)"] = 32, slot_width: int = 32,
         read_heads: int = 1, write_heads: int = 1, shift_range: Annotated[int, "[0, inf)"] = 1,
         memory_init: Literal["learned", "constant"] | None = None,
         memory: Literal["dense", "sparse", "key_value"] = "dense", top_k: int | None = None,
         key_width: int | None = None, reads_on: bool = False, allocate: bool = True,
         normaliser: Literal["softmax", "sparsemax"] = "softmax",
         search: Literal["auto", "exact", "lsh"] = "auto",
         recall: Literal["attention", "read"] = "attention", attention_heads: int = 4, cheb_order: int = 3,
         locality: int = 4, access_rate: Annotated[float, "(0, 1]"] = 1.0,
         initial_access_rate: Annotated[float, "(0, 1]"] = 1.0,
         mask: Literal["learned", "ablation", "hard_concrete", "adaptive", "uniform",
                       "random"] = "learned",
         mask_surrogate: Literal["sigmoid", "double_tanh"] = "sigmoid", mask_period: int | None = None,
         controller: Literal["lstm", "lmu"] = "lstm", controller_order: int = 64,
         segment_length: Annotated[float, "[1, inf)"] = 4.0,
         boundaries: Literal["learned", "change", "fixed"] = "learned", memory_horizon: int | None = None,
         boundary_penalty: Annotated[float, "[0, inf)"] = 1.0, dropout: Annotated[float, "[0, 1)"] = 0.0, *,
         steps=None, return_sequences=False, stateful=False, seed=None, jit_compile=True):
    """A `SANTM` at its first access rate.

    Args:
      units: Units of every level, and of the output.
      memory_slots: Slots of the external memory, N.
      slot_width: Width of a slot, W.
      read_heads: Read heads.
      write_heads: Write heads.
      shift_range: Furthest shift of a head, in slots.
      memory_init: The memory at the start of a sequence (default: a dense memory learned, a sparse one
        constant).
      memory: Weights over all slots; top_k weights a head at a cost that hardly grows with the slots; or
        rows of a key and a value, one for each segment, found by the key.
      top_k: Weights that a head of a sparse memory or of one of keys and values keeps (4).
      key_width: Width of a key in a memory of keys and values (default: slot_width).
      reads_on: Whether a head of a memory of keys and values may read the rows after those it read last.
      allocate: Whether a sparse memory's write heads may take the slot accessed longest ago.
      normaliser: What makes a sparse memory's weights sum to 1.
      search: How a sparse memory finds the slots most similar to a key: among all, or hashed.
      recall: What is recalled: an attention over the slots, or the vectors read as they are.
      attention_heads: Heads of the recall's attention; divides slot_width.
      cheb_order: Chebyshev terms of the recall's filter, K.
      locality: Half-width of a slot's neighbourhood, w.
      access_rate: Share of steps that may access the memory at the end of training, in (0, 1].
      initial_access_rate: The same at the start; below 1 they begin at equal gaps.
      mask: Which steps access the memory: learned by projection, by what shutting one does to the loss, or
        as hard-concrete gates; adaptive, where the input decides; or fixed from the start, at equal gaps or
        random.
      mask_surrogate: Whose slope the learned mask's scores get.
      mask_period: Steps after which the access mask repeats (default: the length of a training sequence).
      controller: The bottom level's cell: an LSTM, or a Legendre memory of segment_length steps (model lmu).
      controller_order: Legendre polynomials of an lmu controller.
      segment_length: Expected length of a segment, in steps.
      boundaries: Where segments end: where the model learns to end them, where the input changes most, or
        every segment_length steps.
      memory_horizon: Longest memory wanted of the LSTMs' gates at first, in steps (default: mask_period).
      boundary_penalty: Weight in the loss of the boundary rate's distance from 1/segment_length, squared.
      dropout: Share of features dropped before the output.

    Raises:
      ArgumentError: sizes that cannot work, or an access rate above the initial one.
    """
    if access_rate > initial_access_rate:
        raise ArgumentError(f"santm: access_rate={access_rate}; it must be at most "
                            f"initial_access_rate={initial_access_rate}")
    if mask == "adaptive":
        if mask_period is not None:
            raise ArgumentError(f"santm: mask_period={mask_period}; mask=adaptive has no period, leave it "
                                "out")
        memory_horizon, mask_surrogate = memory_horizon or steps, None
    else:
        mask_period = mask_period or steps
    lmu = {} if controller == "lstm" else {
        "controller": LMUCell(units, controller_order, theta=segment_length, recurrent=False)}
    return SANTM(
        units, memory_slots=memory_slots, slot_width=slot_width, read_heads=read_heads,
        write_heads=write_heads, shift_range=shift_range, memory_init=memory_init, memory=memory, top_k=top_k,
        key_width=key_width, reads_on=reads_on, allocate=allocate, normaliser=normaliser, search=search,
        recall=recall, attention_heads=attention_heads, cheb_order=cheb_order, locality=locality,
        mask_period=mask_period, access=mask, mask_surrogate=mask_surrogate,
        access_rate=access_rate if mask in FIXED else initial_access_rate,
        segment_length=segment_length, boundaries=boundaries, memory_horizon=memory_horizon,
        boundary_penalty=boundary_penalty, dropout=dropout, return_sequences=return_sequences,
        stateful=stateful, jit_compile=jit_compile, seed=seed, **lmu)


MODEL = Model(make, cost)
