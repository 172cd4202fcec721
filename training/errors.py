"""How a program ends early, and what it says on the way."""

import functools
import sys


class UsageError(Exception):
    """A user's mistake: one line that names the flag or file and what would be right."""


class Stopped(Exception):
    """A run that was asked to stop, and did: what to say, and the exit code."""

    def __init__(self, message, code):
        super().__init__(message)
        self.code = code


def say(text):
    """Says something on standard error."""
    print(f"note: {text}", file=sys.stderr)


@functools.cache
def note(text):
    """Says something on standard error, once."""
    say(text)
