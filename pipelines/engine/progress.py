"""Progress of a download: a live line on a terminal, now and then a line in a log."""

import sys
import time

_LIVE_EVERY_S = 0.2
_LINE_EVERY_S = 5.0
_CLEAR = "\r\x1b[K"  # to the start of the line, and empty it


class Progress:
    """Bytes of one file as they arrive.

    Args:
        label: name of the file for the user.
        live: overwrite one line (on a terminal); several downloads side by side write lines instead.
    """

    def __init__(self, label: str, *, live: bool) -> None:
        self._label = label
        self._live = live and sys.stdout.isatty()
        self._start = self._done = 0
        self._total: int | None = None
        self._began_s = self._shown_s = 0.0

    def begin(self, start: int, total: int | None) -> None:
        """Begin with ``start`` bytes that are there already, of ``total`` where it is known."""
        self._start = self._done = start
        self._total = total
        self._began_s = time.monotonic()
        self._show()

    def advance(self, num_bytes: int) -> None:
        """Count bytes that have arrived."""
        self._done += num_bytes
        if time.monotonic() - self._shown_s >= (_LIVE_EVERY_S if self._live else _LINE_EVERY_S):
            self._show()

    def say(self, text: str) -> None:
        """Print a line of its own."""
        print(f"{_CLEAR if self._live else ''}{self._label}: {text}", flush=True)

    def end(self) -> None:
        """Leave the last state on the screen."""
        self._show()
        if self._live:
            print(flush=True)

    def _show(self) -> None:
        self._shown_s = time.monotonic()
        text = f"{self._done / 1e6:.1f} MB"
        if self._total:
            text = f"{self._done / 1e6:.1f} of {self._total / 1e6:.1f} MB ({100 * self._done // self._total} %)"
        elapsed_s = self._shown_s - self._began_s
        if self._done > self._start and elapsed_s > 0:
            text += f", {(self._done - self._start) / 1e6 / elapsed_s:.1f} MB/s"
        if self._live:
            print(f"{_CLEAR}{self._label}: {text}", end="", flush=True)
        else:
            print(f"{self._label}: {text}", flush=True)
