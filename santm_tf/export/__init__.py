"""A trained SANTM as a SavedModel: whole sequences, streams, scores."""

from santm_tf.export.saved_model import FACTS, export

__all__ = ["FACTS", "export"]
