"""Tokens as integers: first numbers, in the order in which they are met; then ids, by frequency.

A text is split once, into numbers. Once they are counted, a table turns numbers into ids.
"""

import collections
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

PADDING, UNKNOWN = 0, 1


class Lexicon(NamedTuple):
    """Between a text and its tokens' ids."""

    split: Callable[[bytes], list]  # from a text to its tokens
    ids: dict  # from a token to its id; others are unknown
    tokens: dict  # from an id to its token, as text that can be printed

    def encode(self, text):
        """The ids of a text's tokens, int32 `[T]`."""
        return np.array([self.ids.get(token, UNKNOWN) for token in self.split(text)], np.int32)


def lexicon(split, numbers, table):
    """A `Lexicon`.

    Args:
      split: from a text's bytes to its tokens. numbers: of the tokens. table: from numbers to ids.

    >>> words = lexicon(bytes.split, {b"to": 0, b"be": 1, b"or": 2}, ids([2, 2, 1], size=3))
    >>> words.encode(b"to be or not").tolist(), words.tokens
    ([2, 3, 1, 1], {0: '', 1: '?', 2: 'to', 3: 'be'})
    """
    known = {token: int(table[number]) for token, number in numbers.items()}
    tokens = {PADDING: "", UNKNOWN: "?"}
    for token, number in known.items():
        text = token.decode("utf-8", "backslashreplace") if isinstance(token, bytes) else token
        tokens.setdefault(number, repr(text)[1:-1])
    return Lexicon(split, known, tokens)


def numbering(known=()):
    """A mapping that gives every new token the next number; the `known` ones have the first.

    >>> numbers = numbering()
    >>> [numbers[word] for word in "to be or not to be".split()]
    [0, 1, 2, 3, 0, 1]
    """
    numbers = collections.defaultdict(None, {token: n for n, token in enumerate(known)})
    numbers.default_factory = numbers.__len__
    return numbers


def numbered(tokens, numbers):
    """The numbers of a list of tokens, int32, without a loop in Python.

    >>> numbered(["to", "be", "to"], numbering())
    array([0, 1, 0], dtype=int32)
    """
    return np.fromiter(map(numbers.__getitem__, tokens), np.int32, len(tokens))


def ids(counts, size):
    """The table from numbers to ids: 0 is padding, 1 is unknown, 2 the most frequent token.

    Args:
      counts: how often each number is in the training split. Those of 0 are unknown.
      size: ids at most, unknown counted and padding not.

    Returns:
      int32, one id per number. Of equally frequent tokens the first met has the lower id.

    >>> ids([3, 0, 5, 1], size=3).tolist()
    [3, 1, 2, 1]
    """
    counts = np.asarray(counts)
    order = np.argsort(-counts, kind="stable")[:size - 1]
    order = order[counts[order] > 0]
    table = np.full(len(counts), UNKNOWN, np.int32)
    table[order] = np.arange(2, 2 + len(order))
    return table


def width(table):
    """How many ids a table gives, padding counted: one more than the highest."""
    return int(max(table.max(initial=0), UNKNOWN)) + 1
