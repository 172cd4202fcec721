"""What train.py and evaluate.py share: configurations, models, optimisers, work directories, callbacks.

To import this package imports no TensorFlow.
"""
