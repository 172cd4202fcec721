"""What train.py and evaluate.py share: flags, models, optimisers, work directories, callbacks."""
