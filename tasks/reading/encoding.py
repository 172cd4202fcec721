"""Bytes of a file as text, and the rows of a CSV file: what every reader of texts shares."""

import codecs
import contextlib
import csv
import io
import itertools
import re

from santm_tf.tasks import sources
from santm_tf.tasks.errors import TaskError

MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32",
         codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}  # UTF-32's begins with UTF-16's
BLANK = b" \t\r\n\0\xef\xbb\xbf\xff\xfe"  # bytes of marks and of what says nothing
SEPARATORS = "\t;,|"  # a decimal comma separates nothing where a semicolon does
SAMPLE, SAMPLE_BYTES = 200, 1 << 16  # rows and bytes that tell what separates
LONG_SAMPLE = 1 << 22  # bytes that tell the decimal mark


def codec(content, where):
    """The encoding of a text: by its mark, UTF-16 by its bytes of 0, else UTF-8.

    Args:
      content: bytes, at least the beginning. where: the text's name in an error.

    Raises:
      TaskError: bytes of 0 that are not UTF-16's.

    >>> codec("ab".encode("utf-16"), "a.txt"), codec("ab".encode("utf-16-le"), "a.txt"), codec(b"ab", "a.txt")
    ('utf-16', 'utf-16-le', 'utf-8')
    """
    for mark, name in MARKS.items():
        if content.startswith(mark):
            return name
    if not (zeros := content.count(0)):
        return "utf-8"
    late = content[1::2].count(0)
    for name, found in (("utf-16-le", late), ("utf-16-be", zeros - late)):
        if found == zeros and zeros > len(content) / 10:
            return name
    raise TaskError(f"{where}: has bytes of 0, so is no text; give a text in UTF-8")


def decoded(content, where):
    """A text, and whether all its bytes are of its encoding; those that are not are U+FFFD.

    >>> decoded(b"caf\\xe9", "a.txt")
    ('caf\ufffd', False)
    """
    name = codec(content, where)
    try:
        return content.decode(name), True
    except UnicodeDecodeError:
        return content.decode(name, "replace"), False


def utf8(path):
    """The bytes of a text file, in UTF-8 and without a mark.

    Raises:
      TaskError: a file that cannot be read, or the line of a byte that is not of its encoding.
    """
    content = file_bytes(path)
    name = codec(content, path)
    try:
        text = content.decode(name)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TaskError(f"{path}, line {line}: byte 0x{content[error.start]:02x} is not {name.upper()}; save "
                        f"the file as UTF-8, for instance with iconv -f LATIN1 -t UTF-8") from error
    return content if name == "utf-8" else text.encode()


def beginning(content):
    """The first lines of a text in UTF-8, from the first one that is not blank: three at least."""
    content, end = re.sub(rb"\A(?:[ \t]*[\r\n]+)*", b"", content.removeprefix(codecs.BOM_UTF8)), 0
    for _ in range(3):
        end = content.find(b"\n", end) + 1 or len(content)
    return content[:max(end, SAMPLE_BYTES)].decode("utf-8", "ignore")


def file_bytes(path):
    """The bytes of a file.

    Raises:
      TaskError: it cannot be read, or is empty.
    """
    try:
        content = sources.content(path)
    except OSError as error:
        raise TaskError(f"{path}: {error.strerror}") from error
    if not content.strip(BLANK):
        raise TaskError(f"{path}: is empty")
    return content


def rows(text, separator, where):
    """The rows of a CSV text that are not empty, `(line, cells)`.

    Raises:
      TaskError: the line where a quote opens that does not close before a separator or the end.

    >>> list(rows('a,"b\\nc"\\n\\nd,e', ",", "f.csv"))
    [(1, ['a', 'b\\nc']), (4, ['d', 'e'])]
    """
    csv.field_size_limit(2 ** 31 - 1)
    reader, line = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), 1
    try:
        for row in reader:
            if row:
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise TaskError(f"{where}, line {line}: a quote opens here and does not close before the field ends; "
                        "close it, or double a quote that belongs to the text") from error


def separator(text, ragged=False):
    """What separates the cells of a CSV text: the character that most rows have as often as the first one.

    Args:
      text: its beginning is enough.
      ragged: rows may be of any width from 2 on, and a comma goes first, since a text has other marks.

    >>> separator("a;b\\n1,5;2,5\\n3,5;4"), separator("pos,well; no\\nneg,no, oh; no", ragged=True)
    (';', ',')
    """
    best, most = ",", 0
    for character in ",\t;|" if ragged else SEPARATORS:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=character, strict=True)
        widths = []
        with contextlib.suppress(csv.Error):  # a quote that closes before another separator
            widths.extend(len(row) for row in itertools.islice(reader, SAMPLE) if row)
        first = widths[0] if widths else 1
        agree = sum(width > 1 if ragged else width == first for width in widths)
        if first > 1 and agree > most:
            best, most = character, agree
    return best


def decimal(content, separator):
    """The decimal mark of a table's numbers, "," or "."; a comma where cells have it and none has a point.

    Where commas separate, "1,234" in quotes is taken as 1234, which has a mark between thousands.

    >>> decimal(b"a;b\\n1,5;2\\n", ";"), decimal(b"a,b\\n1.5,2\\n", ",")
    (',', '.')
    """
    content = content[:LONG_SAMPLE]
    edge, number = re.escape(separator.encode()), rb"[-+]?\d+MARK\d+(?:[eE][-+]?\d+)?"
    quoted, bare = rb'"(?![-+]?\d{1,3}(?:,\d{3})+")%b"', rb'(?:^|%b) *"?%b"? *(?:$|\r|%b)'
    cell = quoted % number if separator == "," else bare % (edge, number, edge)
    if separator == "," and re.search(rb"(?:^|,)[-+]?\d+\.\d", content, re.MULTILINE):
        return "."
    comma, point = (re.search(cell.replace(b"MARK", mark), content, re.MULTILINE) for mark in (b",", rb"\."))
    return "," if comma and not point else "."
