"""The one error of this library's own."""


class ArgumentError(ValueError):
    """An argument that cannot work. One line: who refuses which value, and what would be right."""


def at_least(where, least, **sizes):
    """Raises an `ArgumentError`, which says where and names the size, for a size below the least one."""
    for name, value in sizes.items():
        if not value >= least:
            raise ArgumentError(f"{where}: {name}={value}; it must be at least {least}")
