"""What train.py and evaluate.py share: flags, models, optimisers, work directories, callbacks."""

import santm_tf  # noqa: F401  (first: it chooses Keras 2)
