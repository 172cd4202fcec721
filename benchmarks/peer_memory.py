"""SAM, the "sparse access memory" of Rae et al. 2016, by the package `dnc`: made to run on a CPU and now.

`pip install --no-deps dnc pyflann-ibeis`. The package is as it comes, version 1.1.0, but for what follows.
Each of it helps it: otherwise it does not run, or is slower.

- It looks for faiss on a GPU, else for `pyflann`, whose maintained form is called `pyflann_ibeis`.
- Its constructor makes N x N numbers for another memory that it then drops, twice 16 GiB at N=65,536.
  Here SAM is made small, and then gets the memory it would have had.
- It gives FLANN N/100 kd-trees to build at every step, none where N < 100; here 4, FLANN's default.
- It changes in place what `gather` now keeps for the backward pass, which PyTorch refuses. A gather that
  keeps the places alone is what PyTorch had then.
- PyTorch and FLANN run on one thread: on two their many small operations wait for each other.

From an empty memory it searches only the slots it has used so far, T at the most; what grows with N is the
choice of the least used slot and, in the backward pass, a gradient of the whole memory at every step.
"""

import functools
import os
import sys

TREES = 4


def sam(features, units, slots, width, reads):
    """A SAM of one layer and one head, from `[B, T, features]` to the same shape."""
    dnc = _package()
    model = dnc.SAM(features, units, num_layers=1, num_hidden_layers=1, nr_cells=2 * reads, cell_size=width,
                    read_heads=1, sparse_reads=reads, gpu_id=-1)
    memory = dnc.SparseMemory(units, slots, width, independent_linears=False, read_heads=1,
                              sparse_reads=reads, num_lists=TREES)
    model.memories = [memory]
    model.rnn_layer_memory_shared = memory
    return model


@functools.cache
def _package():
    os.environ["OMP_NUM_THREADS"] = "1"  # FLANN's; read when it is loaded
    import pyflann_ibeis
    sys.modules["pyflann"] = pyflann_ibeis
    sys.modules["faiss"] = None  # so that it is not tried anew for each sequence
    import dnc
    import torch

    torch.set_num_threads(1)
    _gather_as_it_was(torch)
    return dnc


def _gather_as_it_was(torch):
    gather = torch.Tensor.gather

    class Gather(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, axis, places):
            ctx.shape, ctx.axis = x.shape, axis
            ctx.save_for_backward(places)
            return gather(x, axis, places)

        @staticmethod
        def backward(ctx, d):
            return d.new_zeros(ctx.shape).scatter_add_(ctx.axis, *ctx.saved_tensors, d), None, None

    torch.Tensor.gather = lambda x, axis, places: Gather.apply(x, axis, places)
