"""Logistic regression on a bag of words: what the `text` task is worth without the order of tokens.

`python -m benchmarks.bag_of_words --data_dir=../shared/data/movie_reviews.zip` prints its test accuracy.
"""

import argparse
import json

import numpy as np


def bag_of_words_score(task, strengths=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)):
    """The test accuracy of scikit-learn's `LogisticRegression` on which ids a document has.

    It sees the documents as a model does: cut at `max_length`, ids by the training split, which come
    without a remainder of less than a batch. The regularisation is chosen by validation accuracy.

    Args:
      task: the `text` task.
      strengths: the values of `C` to try.

    Returns:
      The accuracy, and the `C` chosen.
    """
    from sklearn.linear_model import LogisticRegression

    train, validation, test = (_bags(part, task.vocabulary)
                               for part in (task.train, task.validation, task.test))
    models = [LogisticRegression(C=c, max_iter=2000).fit(*train) for c in strengths]
    best = max(models, key=lambda model: model.score(*validation))
    return best.score(*test), best.C


def _bags(dataset, vocabulary):
    """Sparse `[n, vocabulary]`, 1 where the document has the id, and the classes `[n]`."""
    from scipy import sparse

    x, y = (np.concatenate(part) for part in zip(*dataset.as_numpy_iterator(), strict=True))
    row, _ = np.nonzero(x)
    counts = sparse.csr_matrix((np.ones(len(row)), (row, x[x != 0])), [len(x), vocabulary])
    return counts > 0, y


def main():

    from santm_tf import tasks

    parser = argparse.ArgumentParser(prog="python -m benchmarks.bag_of_words")
    parser.add_argument("--data_dir", help="see train.py")
    parser.add_argument("--level", default="word")
    parser.add_argument("--max_length", type=int, default=400)
    parser.add_argument("--vocabulary_size", type=int, default=10_000)
    options = vars(parser.parse_args())
    accuracy, c = bag_of_words_score(tasks.text.load(batch_size=1, seed=0, **options))
    print(json.dumps({"test_accuracy": accuracy, "C": c, **options}))


if __name__ == "__main__":
    main()
