"""TensorBoard's event files, of which a run that goes on keeps what it had reached."""

import glob
import os

import tensorflow as tf


def cut(folder, last):
    """Takes from a folder's event files all that was written after step `last`: -1 for everything.

    A file whose end is damaged, as one is that was being written when a run was killed, loses that end.
    Each file is replaced whole.
    """
    for path in glob.glob(os.path.join(glob.escape(folder), "events.out.tfevents.*")):
        new = os.path.join(folder, "cut")  # not a name that TensorBoard reads
        with tf.io.TFRecordWriter(new) as writer:
            for record in _records(path):
                if tf.compat.v1.Event.FromString(record).step <= last:
                    writer.write(record)
        os.replace(new, path)
        if not os.path.getsize(path):
            os.remove(path)


def _records(path):
    try:
        for record in tf.data.TFRecordDataset(path):
            yield record.numpy()
    except tf.errors.DataLossError:
        return
