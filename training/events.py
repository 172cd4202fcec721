"""TensorBoard's event files: a run that goes on from a checkpoint keeps what is up to there."""

import glob
import os

import tensorflow as tf

from santm_tf.paths import whole


def cut(folder, last):
    """Deletes from a folder's event files all that is of a step after `last`; -1 deletes everything.

    A run that was killed while it wrote leaves a file with a damaged end. The file loses that end.
    Each file is replaced whole.
    """
    for path in glob.glob(os.path.join(glob.escape(folder), "events.out.tfevents.*")):
        with whole(path) as new, tf.io.TFRecordWriter(new) as writer:  # not a name that TensorBoard reads
            for record in _records(path):
                if tf.compat.v1.Event.FromString(record).step <= last:
                    writer.write(record)
        if not os.path.getsize(path):
            os.remove(path)


def _records(path):
    try:
        for record in tf.data.TFRecordDataset(path):
            yield record.numpy()
    except tf.errors.DataLossError:
        return
