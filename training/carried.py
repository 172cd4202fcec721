"""The states that stateful layers carry from batch to batch, as a checkpoint holds them: of all rows."""

import tensorflow as tf

from santm_tf.keras import carried_states


class Carried:
    """Of a model in one process its own variables; of several, copies with the rows of all of them.

    Args:
      model: built. place: see `training.devices`.

    Attributes:
      whole: what a checkpoint holds.
    """

    def __init__(self, model, place):
        self._here, self._place = carried_states(model), place
        self.whole = self._here
        if place.replicas is not None:
            self.whole = [tf.Variable(tf.zeros([v.shape[0] * place.replicas.count, *v.shape[1:]], v.dtype))
                          for v in self._here]

    def gather(self):
        """Has the copies hold what all processes have, each of which must ask."""
        if self._place.replicas is None or not self._here:
            return
        rows = [tf.scatter_nd(tf.range(*self._place.share.bounds(whole.shape[0]))[:, None],
                              tf.convert_to_tensor(here), whole.shape)
                for here, whole in zip(self._here, self.whole, strict=True)]
        for whole, sum in zip(self.whole, self._place.replicas.sum(rows), strict=True):
            whole.assign(sum)

    def spread(self):
        """Has this process's variables hold its rows of the copies."""
        if self._place.replicas is not None:
            for here, whole in zip(self._here, self.whole, strict=True):
                here.assign(self._place.share.of(tf.convert_to_tensor(whole)))
