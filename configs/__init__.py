"""Flag files: `train.py --flagfile=digits.cfg`."""
