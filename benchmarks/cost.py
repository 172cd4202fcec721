"""What SANTM and its rivals cost on a sequence at the paper's sizes, by their formulas.

`python -m benchmarks.cost` times nothing: it computes FLOPs, bytes and memory accesses of the forward
pass of one sequence of permuted MNIST.
"""

from benchmarks import table
from santm_tf import baselines
from santm_tf.analysis import cost

FEATURES, UNITS, STEPS, BOUNDARY_RATE = 1, 32, 784, 0.25
ACCESS_RATES = 1, 0.5, 0.25, 0.1, 0.05
RIVALS = ("lstm", "lnlstm", "skip_lstm", "dilated_lstm", "drr_lstm", "ntm", "uw_ntm", "cuw_ntm",
          "transformer", "mamba", "lmu")
SAVED = 0.37, 0.54  # of an NTM's FLOPs, by the paper
COLUMNS = {"mflops": "MFLOPs", "ratio": "FLOPs against the NTM", "megabytes": "MB moved",
           "accesses": "memory accesses"}


def santm(access_rate):
    return cost.santm(FEATURES, UNITS, STEPS, access_rate, BOUNDARY_RATE)


def rate_that_saves(share, flops):
    """The access rate at which SANTM needs `1 - share` of so many FLOPs, which are linear in the rate."""
    none = santm(0).flops
    return ((1 - share) * flops - none) / (santm(1).flops - none)


def main():
    costs = {f"santm, access rate {rate}": santm(rate) for rate in ACCESS_RATES}
    costs |= {name: baselines.load(name).cost(FEATURES, UNITS, STEPS) for name in RIVALS}
    ntm = costs["ntm"].flops
    rows = {name: {"mflops": c.flops / 1e6, "ratio": c.flops / ntm, "megabytes": c.bytes / 1e6,
                   "accesses": round(c.accesses)} for name, c in costs.items()}
    least, most = (rate_that_saves(share, ntm) for share in SAVED)
    table.write(
        "cost",
        f"Forward pass of one sequence: T={STEPS}, d={FEATURES}, {UNITS} units, memory 32 x 32, one read and "
        f"one write head, boundary rate {BOUNDARY_RATE}; the rest by default. SANTM needs {SAVED[0]:.0%} to "
        f"{SAVED[1]:.0%} fewer FLOPs than the NTM, the paper's figures, at access rates of {least:.3f} to "
        f"{most:.3f}.",
        "model", rows, COLUMNS, table.rounded)


if __name__ == "__main__":
    main()
