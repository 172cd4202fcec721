"""The error of this package."""


class TaskError(ValueError):
    """A task that cannot be had: one line that names the flag and what would be right."""
