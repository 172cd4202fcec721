"""A trained SANTM as a SavedModel: whole sequences, streams, scores."""

from santm_tf.export.saved_model import FACTS, check, export

__all__ = ["FACTS", "check", "export"]
