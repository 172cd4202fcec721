"""What the areas of the search share: an input is accepted, or refused in one line; all else is a failure.

An area is a module with `cases()`, a strategy of Hypothesis, whose cases are Python literals, and
`check(case)`, which returns where the case is taken and right, and raises one of `REFUSALS` where it is not.
"""

import ast
import dataclasses
import hashlib
import pathlib
import time

import hypothesis

from santm_tf.errors import ArgumentError, MissingExtra
from santm_tf.tasks.errors import TaskError
from santm_tf.training.errors import UsageError

REFUSALS = UsageError, ArgumentError, TaskError, MissingExtra
QUOTED = "a\nb"  # a name with a line end, which an error may quote; `flags.program` prints it in one line
AREAS = "flags", "readers", "workdirs", "checkpoints", "signatures"  # beside the server's, `server_api`
KEPT = pathlib.Path(__file__).parent / "cases"  # those that failed once, by area


@dataclasses.dataclass
class Found:
    """What a search has tried.

    Attributes:
      accepted, refused: how many inputs. slowest: seconds of one input. case, error: the smallest input that
        fails, and how; None where none does.
    """

    accepted: int = 0
    refused: int = 0
    slowest: float = 0.0
    case: object = None
    error: Exception | None = None

    @property
    def inputs(self):
        return self.accepted + self.refused


def accepts(area, case):
    """Whether a case is taken; an error where it is neither taken nor refused in one line."""
    try:
        area.check(case)
    except REFUSALS as error:
        line = str(error).replace(QUOTED, "")
        if not line.strip() or len(line.split("\n")) > 1:
            raise AssertionError(f"this is not one line: {line!r}") from error
        return False
    return True


def search(area, examples, seed=None):
    """Tries so many cases of an area: always the same ones, or those of a seed. Returns what it `Found`."""
    found = Found()

    @hypothesis.settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=seed is None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(area.cases())
    def run(case):
        began = time.monotonic()
        try:
            accepted = accepts(area, case)
        except BaseException:
            found.case = case  # the last that fails is the smallest
            raise
        found.slowest = max(found.slowest, time.monotonic() - began)
        found.accepted, found.refused = found.accepted + accepted, found.refused + (not accepted)

    try:
        (run if seed is None else hypothesis.seed(seed)(run))()
    except Exception as error:
        found.error = error
    return found


def keep(folder, case):
    """Writes a case into a folder, to be read by `kept`; returns its path."""
    text = repr(case)
    path = (
        pathlib.Path(folder)
        / f"{hashlib.sha256(text.encode('utf-8', 'backslashreplace')).hexdigest()[:12]}.txt"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n", "utf-8", "backslashreplace")
    return path


def kept(name):
    """The cases that failed once, of an area."""
    return [ast.literal_eval(path.read_text("utf-8")) for path in sorted((KEPT / name).glob("*.txt"))]
