"""The errors of this library's own."""

import contextlib
import numbers


class ArgumentError(ValueError):
    """An argument that cannot work. One line: who refuses which value, and what would be right."""


class MissingExtra(ImportError):
    """A package that belongs to an extra, and is not installed. One line: which, and how to install it."""


def at_least(where, least, **sizes):
    """Raises an `ArgumentError`, which says where and names the size, for a size below the least one."""
    for name, value in sizes.items():
        if not isinstance(value, numbers.Real):
            raise ArgumentError(f"{where}: {name}={value!r}; it must be a number")
        if not value >= least:
            raise ArgumentError(f"{where}: {name}={value}; it must be at least {least}")


def whole(where, least, **sizes):
    """The same, and for a size that is no whole number."""
    at_least(where, least, **sizes)
    for name, value in sizes.items():
        if not isinstance(value, numbers.Integral):
            raise ArgumentError(f"{where}: {name}={value}; it must be a whole number")


@contextlib.contextmanager
def extra(name):
    """Imports within are of packages that come with an extra of this project.

    Raises:
      MissingExtra: one of them is not installed.

    >>> with extra("plots"):
    ...     import no_such_package
    Traceback (most recent call last):
        ...
    santm_tf.errors.MissingExtra: no_such_package is not installed: pip install "santm-tf[plots]"
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = error.name.partition(".")[0]
        raise MissingExtra(f'{package} is not installed: pip install "santm-tf[{name}]"') from error
