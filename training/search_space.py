"""The search space of a sweep: flags, and which values each of them may have.

`learning_rate=log(1e-4,1e-2)`, `dropout=float(0,0.5)`, `units=int(16,128)`, `mask=choice(learned,uniform)`.
"""

import dataclasses
import itertools
import math
import re

from santm_tf.errors import extra
from santm_tf.tasks import PATHS
from santm_tf.tasks.options import Option
from santm_tf.training.config import GROUPS, TASK, Session, configured, known
from santm_tf.training.errors import UsageError

with extra("sweep"):
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

FORM = re.compile(r"\s*(\w+)\s*=\s*(log|float|int|choice)\s*\(([^()]*)\)\s*")
FORMS = "NAME=log(LOW,HIGH), float(LOW,HIGH), int(LOW,HIGH) or choice(A,B)"
# Of a study there is one of each; or its trainings have their own.
FIXED = {TASK, "seed", *PATHS, *(field.name for field in dataclasses.fields(Session))}
MOST_CORNERS = 256


@dataclasses.dataclass(frozen=True)
class Dimension:
    """One flag of a search space.

    Attributes:
      option: the flag's. form: "log", "float", "int" or "choice".
      values: the lowest and the highest value, or the choices.
    """

    option: Option
    form: str
    values: tuple

    @property
    def text(self):
        """As it is given, without the name: `log(0.0001,0.01)`."""
        return f"{self.form}({','.join(map(str, self.values))})"

    @property
    def distribution(self):
        """Optuna's."""
        if self.form == "choice":
            return CategoricalDistribution(self.values)
        kind = IntDistribution if isinstance(self.values[0], int) else FloatDistribution
        return kind(*self.values, log=self.form == "log")

    @property
    def points(self):
        """How many values there are."""
        if self.form == "choice":
            return len(self.values)
        low, high = self.values
        return high - low + 1 if isinstance(low, int) else math.inf


def read(texts, config):
    """The search space of the `--search` flags, `{name: Dimension}`.

    Args:
      texts: what was given, `NAME=FORM(VALUES)` each.
      config: the `Config` of the other flags.

    Raises:
      UsageError: a text is not of this form, or a flag does not take a value.

    >>> from santm_tf.training.config import configured
    >>> space = read(["units=int(16,128)", "dropout=float(0,0.5)"], configured({}))
    >>> space["units"].points, space["dropout"].text
    (113, 'float(0.0,0.5)')
    """
    space = {}
    for text in texts:
        dimension = _dimension(text, config)
        if dimension.option.name in space:
            raise UsageError(f"--search={text}: {dimension.option.name} is searched already; leave one out")
        space[dimension.option.name] = dimension
    for values in itertools.islice(_corners(space), MOST_CORNERS):
        try:
            configured({**config.asked, **{name: value if isinstance(value, bool) else str(value)
                                           for name, value in values.items()}})
        except UsageError as error:
            raise UsageError(f"--search: {error}") from error
    return space


def points(space):
    """How many trials there can be, of which no two are alike."""
    return math.prod(dimension.points for dimension in space.values())


def _dimension(text, config):
    found = FORM.fullmatch(text)
    if not found:
        raise UsageError(f"--search={text}: give {FORMS}")
    name, form, inner = found.groups()
    option, parts = _option(text, name, config), [part.strip() for part in inner.split(",")]
    values = (_choices if form == "choice" else _bounds)(text, option, form, parts)
    return Dimension(option, form, tuple(values))


def _option(text, name, config):
    if name in FIXED:
        raise UsageError(f"--search={text}: --{name} cannot be searched; give another flag")
    owners = next((known(group)[name] for group in GROUPS if name in known(group)), None)
    if owners is None:
        raise UsageError(f"--search={text}: there is no flag --{name}; santm-train --helpfull lists them")
    return owners.get(config.model) or owners.get(config.task) or next(iter(owners.values()))


def _choices(text, option, form, parts):
    truths = {"true": True, "false": False}
    if option.kind is bool and not set(parts) <= truths.keys():
        raise UsageError(f"--search={text}: --{option.name} is true or false")
    try:
        values = [truths[part] if option.kind is bool else option.parse(part) for part in parts]
    except ValueError as error:
        raise UsageError(f"--search={text}: {error}") from error
    if len(set(values)) < max(2, len(values)):
        raise UsageError(f"--search={text}: give two choices or more, each once")
    return values


def _bounds(text, option, form, parts):
    if option.kind not in (int, float):
        raise UsageError(f"--search={text}: --{option.name} takes no numbers; give {option.name}=choice(A,B)")
    if option.kind is int and form == "float":
        raise UsageError(f"--search={text}: --{option.name} takes whole numbers; give int(LOW,HIGH) or "
                         "log(LOW,HIGH)")
    kind = int if form == "int" else option.kind
    try:
        low, high = map(kind, parts)
    except ValueError as error:
        noun = "whole numbers" if kind is int else "numbers"
        raise UsageError(f"--search={text}: give two {noun}, {form}(LOW,HIGH)") from error
    if not (math.isfinite(low) and math.isfinite(high)):
        raise UsageError(f"--search={text}: the bounds must be finite")
    if not low < high:
        raise UsageError(f"--search={text}: {low} is not below {high}; give the lower bound first")
    if form == "log" and low <= 0:
        raise UsageError(f"--search={text}: a logarithm needs bounds above 0")
    return low, high


def _corners(space):
    """Every choice with all lowest, then with all highest values: `{name: value}` each."""
    for side in (0, 1):
        ends = [dimension.values if dimension.form == "choice" else (dimension.values[side],)
                for dimension in space.values()]
        for values in itertools.product(*ends):
            yield dict(zip(space, values, strict=True))
