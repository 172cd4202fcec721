"""A text's tokens: in Python, where data are read, and in TensorFlow, where a model is served."""

import functools
import itertools
import re

import numpy as np
import tensorflow as tf

from santm_tf.tasks.vocabulary import PADDING, UNKNOWN

WORD = re.compile(r"\w+(?:'\w+)*")
APOSTROPHE = ord("'")


def tokens(text, level, most=None):
    """A text's words, or its characters as they stand; the first `most` of them.

    Words are runs of letters, digits and inner apostrophes, in small letters. A Greek sigma is the one letter
    whose small form depends on what is around it; here it has one form.

    >>> tokens("It's ΟΔΟΣ, isn't' it?", "word")
    ["it's", 'οδοσ', "isn't", 'it']
    """
    if level == "char":
        return text[:most]
    found = WORD.finditer(text.lower().replace("ς", "σ"))
    return [match[0] for match in itertools.islice(found, most)]


def tokens_in_graph(texts, level):
    """The same of UTF-8 strings `[B]`, as ragged strings `[B, tokens]`. What is not UTF-8 is U+FFFD.

    >>> tokens_in_graph(tf.constant(["It's ΟΔΟΣ, isn't' it?"]), "word").to_list()[0][0].decode()
    "it's"
    """
    texts = tf.strings.regex_replace(texts, "^\ufeff", "")  # the mark of UTF-8
    if level == "char":
        return tf.strings.unicode_split(texts, "UTF-8")
    texts = tf.strings.regex_replace(texts, "\u0130", "i\u0307")  # the one letter that becomes two
    # Every text ends with a space, so that no word reaches into the next text.
    characters = tf.strings.unicode_decode(tf.strings.join([texts, " "]), "UTF-8")
    rows, small = characters.value_rowids(), _in_small_letters(characters.values)
    word = _of_a_word(small)
    inside = word | ((small == APOSTROPHE) & _shifted(word, 1) & _shifted(word, -1))
    first = inside & ~_shifted(inside, 1)
    of_token = tf.cumsum(tf.cast(first, tf.int64)) - 1
    letters = tf.RaggedTensor.from_value_rowids(small[inside], of_token[inside])
    return tf.RaggedTensor.from_value_rowids(tf.strings.unicode_encode(letters, "UTF-8"), rows[first],
                                             nrows=tf.size(texts, tf.int64))


class TextFront(tf.Module):
    """From texts to what a model of their tokens takes.

    Args:
      ids: of the tokens that the model knows.
      level: "word" or "char". max_length: tokens read of a text.

    >>> front = TextFront({"to": 2, "be": 3}, level="word", max_length=4)
    >>> x, valid = front(texts=tf.constant(["To be or not to be", "BE"]))
    >>> x.numpy().tolist(), valid.numpy().sum(1).tolist()
    ([[2, 3, 1, 1], [3, 0, 0, 0]], [4, 1])
    """

    step = None  # streams take the tokens' ids

    def __init__(self, ids, level, max_length):
        super().__init__()
        self.level, self.max_length = level, max_length
        object.__setattr__(self, "_given", dict(ids))  # a module would wrap it
        known = tf.lookup.KeyValueTensorInitializer(
            tf.constant(list(ids), tf.string), tf.constant(list(ids.values()), tf.int32))
        self.ids = tf.lookup.StaticHashTable(known, UNKNOWN)

    @property
    def signature(self):
        return {"texts": tf.TensorSpec([None], tf.string, "texts")}

    @property
    def facts(self):
        return {"takes": "texts in UTF-8", "level": self.level, "max_length": self.max_length}

    def get_config(self):
        return {"ids": self._given, "level": self.level, "max_length": self.max_length}

    def __call__(self, texts):
        found = tokens_in_graph(texts, self.level)[:, :self.max_length]
        lengths = found.row_lengths()
        some = tf.debugging.Assert(tf.reduce_all(lengths > 0), [f"texts: one has no {self.level} in it"])
        with tf.control_dependencies([] if some is None else [some]):
            x = self.ids.lookup(found).to_tensor(PADDING)
        return x, tf.sequence_mask(lengths)


def _shifted(x, by):
    """x `[n]` at the place before, or with -1 behind; False at the end."""
    return tf.concat([[False], x[:-1]] if by > 0 else [x[1:], [False]], 0)


def _of_a_word(characters):
    """Where `\\w` matches, for code points `[n]`."""
    changes, _, _ = _letters()
    return tf.searchsorted(changes, characters, side="right") % 2 == 1


def _in_small_letters(characters):
    _, large, small = _letters()
    at = tf.minimum(tf.searchsorted(large, characters), len(large) - 1)
    return tf.where(tf.gather(large, at) == characters, tf.gather(small, at), characters)


@functools.cache
def _letters():
    """Of Python's Unicode: the code points where `\\w` begins and ceases to match; large letters; their small
    ones."""
    characters = [chr(n) for n in range(0x110000)]
    inside = np.array([c == "_" or c.isalnum() for c in characters])
    small = {ord(c): ord(lower) for c in characters if len(lower := c.lower()) == 1 and lower != c}
    small[ord("ς")] = ord("σ")
    large = sorted(small)
    changes = 1 + np.flatnonzero(inside[1:] != inside[:-1])
    return (changes.astype(np.int32), np.array(large, np.int32),
            np.array([small[n] for n in large], np.int32))
