"""The one error of this library's own."""


class ArgumentError(ValueError):
    """An argument that cannot work. One line: who refuses which value, and what would be right."""
