"""Small damage to the bytes of a file."""

import hypothesis.strategies as st

from tests.fuzz.search import QUOTED

PIECES = [
    b"",
    b"\0",
    b"\xff",
    b"\n",
    b'"',
    b",",
    b";",
    b"\t",
    b"nan",
    b"inf",
    b"-1",
    b"1e999",
    b"9" * 30,
    b"[]",
    b"{}",
    b"null",
    b"\xef\xbb\xbf",
    b"\xff\xfe",
    b"\x80\xe9",
    b"../",
    b"\xff" * 8,
    b"\0" * 64,
    b"\r",
    "ä٣\u2028".encode(),
]
place = st.integers(0, 2**16)
edits = st.one_of(
    st.tuples(st.just("flip"), place, st.integers(0, 7)),
    st.tuples(st.just("cut"), place, st.integers(1, 4096)),
    st.tuples(st.just("end"), place, st.none()),
    st.tuples(st.just("insert"), place, st.sampled_from(PIECES)),
    st.tuples(st.just("over"), place, st.sampled_from(PIECES) | st.binary(max_size=8)),
    st.tuples(st.just("repeat"), place, st.integers(1, 512)),
)


@st.composite
def damaged(draw, content, others=()):
    """A file's bytes, damaged by up to four edits, or with the head of one of others."""
    if others and draw(st.integers(0, 9)) == 0:
        other, size = draw(st.sampled_from(others)), draw(st.integers(0, 256))
        content = other[:size] + content[size:]
    for edit in draw(st.lists(edits, min_size=1, max_size=4)):
        content = edited(content, *edit)
    return content


def edited(content, kind, place, value):
    """The bytes after an edit, at a place that is taken modulo their number."""
    at = place % max(1, len(content))
    if kind == "flip":
        return content and content[:at] + bytes([content[at] ^ 1 << value]) + content[at + 1 :]
    if kind == "cut":
        return content[:at] + content[at + value :]
    if kind == "end":
        return content[:at]
    if kind == "repeat":
        return content[:at] + 2 * content[at : at + value] + content[at + value :]
    size = len(value or b"") if kind == "over" else 0
    return content[:at] + (value or b"") + content[at + size :]


@st.composite
def json_like(draw, value):
    """A value of JSON, one part of which is another: of another type, huge, gone or beside a new one."""
    odd = draw(
        st.sampled_from(
            [
                None,
                True,
                0,
                -1,
                2**70,
                1.5,
                -0.5,
                float("nan"),
                float("inf"),
                "",
                QUOTED,
                "ä",
                "\ud800",
                [],
                {},
                [[]],
                [None],
                {"": 0},
                "x" * 3000,
            ]
        )
    )
    return _replaced(draw, value, odd)


def _replaced(draw, value, odd):
    if not value or not isinstance(value, dict | list) or draw(st.integers(0, 3)) == 0:
        return odd
    key = draw(st.sampled_from(sorted(value) if isinstance(value, dict) else range(len(value))))
    found = value.copy()
    kind = draw(st.integers(0, 9))
    if kind == 0:
        del found[key]
    elif kind == 1 and isinstance(value, dict):
        found["more"] = odd
    else:
        found[key] = _replaced(draw, value[key], odd)
    return found
