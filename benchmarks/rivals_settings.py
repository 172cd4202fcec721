"""What `benchmarks.rivals` compares: the tasks, and what each model may choose on each of them."""

import dataclasses
import os

WEIGHTS = 50_000  # of a model, beside the embeddings
RATES = 0.001, 0.003, 0.01


@dataclasses.dataclass(frozen=True)
class Setting:
    """One task: how long it trains, and which figure counts.

    Attributes:
      metric: as train.py names it, without "test_" or "val_".
      highest: whether more of it is better.
      flags: of train.py, the same for every model.
      epochs: of a run. Choosing takes half of them.
      vocabulary: tokens that are embedded, 0 for none.
      data: what of the data folder it reads.
    """

    metric: str
    highest: bool
    flags: tuple
    epochs: int
    vocabulary: int = 0
    data: str | None = None

    def data_flags(self, folder):
        return [f"--data_dir={os.path.join(folder, self.data)}"] if self.data else []


EMBEDDING = 64
GENERATED = "--steps_per_epoch=100", "--batch_size=32"
SETTINGS = {
    "pmnist": Setting("accuracy", True, ("--pixels_per_step=4", "--train_size=20000", "--batch_size=64"), 4,
                      data="mnist.npz"),
    "copy": Setting("wrong_bits", False, (*GENERATED, "--max_length=20", "--test_length=40"), 12),
    "copy_memory": Setting("accuracy", True, (*GENERATED, "--delay=200", "--curriculum",
                                              "--curriculum_epochs=6"), 16),
    "adding": Setting("mse", False, (*GENERATED, "--length=400"), 8),
    "associative_recall": Setting("wrong_bits", False, (*GENERATED, "--max_items=6"), 12),
    "mqar": Setting("accuracy", True, (*GENERATED, "--pairs=16", "--length=64", "--vocabulary=256"), 8,
                    vocabulary=256),
    "sounds": Setting("accuracy", True, ("--batch_size=32", "--max_length=64"), 8, data="fsdd.zip"),
    "chars": Setting("bits_per_character", False, ("--batch_size=64", "--window=128", "--nocarry"), 3,
                     vocabulary=67, data="tinyshakespeare.txt"),
}
MEMORY = "--memory_slots=32", "--slot_width=16", "--memory_init=constant"
# Of each model what it always has, and the two values of its own option of which validation chooses.
MODELS = {
    "santm": ((), ("--memory=key_value --reads_on --recall=read --memory_slots=512 --slot_width=64 "
                   "--key_width=32",
                   "--memory=dense --memory_slots=32 --slot_width=16 --memory_init=constant "
                   "--attention_heads=2 --cheb_order=2 --locality=1")),
    "lstm": ((), ("", "--memory_horizon=100")),
    "lnlstm": ((), ("", "--dropout=0.2")),
    "skip_lstm": ((), ("", "--cost_per_sample=0.0001")),
    "dilated_lstm": ((), ("--layers=3", "--layers=6")),
    "drr_lstm": ((), ("--routes=4", "--routes=8")),
    "lmu": ((), ("--order=32", "--order=128")),
    "ntm": (MEMORY, ("", "--memory_horizon=2")),
    "uw_ntm": (MEMORY, ("", "--write_interval=4")),
    "cuw_ntm": (MEMORY, ("", "--write_interval=4")),
    "transformer": (("--attention_heads=4",), ("--layers=2", "--layers=4")),
    "mamba": ((), ("--layers=1", "--layers=2")),
}
# Where segments end and the access rate, which depend on the task; of SANTM alone.
STEPWISE = "--segment_length=1", "--boundaries=fixed"
SANTM = {
    "pmnist": ("--controller=lmu", "--segment_length=14", "--boundaries=fixed", "--memory_horizon=8",
               "--mask=uniform", "--access_rate=0.0715"),
    "copy": (*STEPWISE, "--memory_horizon=10", "--mask_period=1"),
    "copy_memory": (*STEPWISE, "--memory_horizon=2", "--mask_period=1", "--read_heads=2", "--top_k=16"),
    "adding": (*STEPWISE, "--initial_access_rate=0.05", "--access_rate=0.05"),
    "associative_recall": (*STEPWISE, "--memory_horizon=10", "--mask_period=1"),
    "mqar": (*STEPWISE, "--memory_horizon=2", "--mask_period=1"),
    "sounds": ("--segment_length=8", "--initial_access_rate=0.1", "--access_rate=0.1"),
    "chars": (*STEPWISE, "--memory_horizon=4", "--mask=uniform", "--initial_access_rate=0.25",
              "--access_rate=0.25"),
}
CAUSAL = "copy", "copy_memory", "associative_recall", "mqar", "chars"  # which answer at every step


def flags(task, model):
    """What a model is trained with on a task, beside what it chooses, its seed and its data."""
    setting = SETTINGS[task]
    embedded = setting.vocabulary * EMBEDDING
    return [f"--task={task}", f"--model={model}", *setting.flags, *MODELS[model][0],
            *(SANTM[task] if model == "santm" else ()),
            *(["--causal"] if model == "transformer" and task in CAUSAL else []),
            *([f"--embedding={EMBEDDING}"] if embedded else []),
            f"--match_parameters={WEIGHTS + embedded}", "--schedule=cosine", "--clip_norm=1.0"]
