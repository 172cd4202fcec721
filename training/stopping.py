"""Ctrl-C and SIGTERM, which end a program at a moment of its choice."""

import signal


class Signals:
    """Notes the first of these signals; a second one ends the program at once. A context manager.

    Attributes:
      came: the number of the signal, or None.
    """

    NUMBERS = signal.SIGINT, signal.SIGTERM

    def __init__(self):
        self.came = None

    def __enter__(self):
        self.before = [signal.signal(number, self._note) for number in self.NUMBERS]
        return self

    def __exit__(self, *_):
        for number, handler in zip(self.NUMBERS, self.before, strict=True):
            signal.signal(number, handler)

    def _note(self, number, frame):
        if self.came:
            raise KeyboardInterrupt
        self.came = number
