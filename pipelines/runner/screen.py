"""Progress of a run: on a terminal a bar for the whole and a line per running unit, elsewhere lines of text."""

import os
import sys
import time
from pathlib import Path

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from pipelines.durations import duration

_TAIL_BYTES = 4096


class Screen:
    """Units as they start, run and end.

    Args:
        weights: seconds that each unit took the last time or is expected to take, for the bar and the time left.
        slots: units at a time.
    """

    def __init__(self, weights: dict[str, float], slots: int) -> None:
        self._weights, self._slots, self._begun = weights, max(1, slots), time.monotonic()
        self._since: dict[str, float] = {}
        self._logs: dict[str, Path] = {}
        self._shown: dict[str, int] = {}
        self._ended: dict[str, float] = {}
        self._live: Live | None = None
        if sys.stdout.isatty() and "CI" not in os.environ:
            self._live = Live(get_renderable=self._render, refresh_per_second=2)
            self._live.start()

    def settled(self, key: str) -> None:
        """Note that a unit is up to date."""
        self._weights.pop(key, None)

    def started(self, key: str, log: Path) -> None:
        """Note that a unit was submitted to an executor."""
        self._since[key], self._logs[key], self._shown[key] = time.monotonic(), log, 0

    def ended(self, key: str, failure: str | None, log: Path, *, has_failed: bool = True) -> None:
        """Print the end of a unit; its result is the last line that it printed."""
        self.tick()
        seconds = time.monotonic() - self._since.pop(key, time.monotonic())
        self._ended[key] = self._weights.get(key, seconds)
        head = f"[{len(self._ended)}/{len(self._weights)}] {key}"
        if failure is None:
            self._say(f"{head}: {last_line(log) or 'done'} ({duration(seconds)})", "")
        else:
            self._say(
                f"{head} {'FAILED' if has_failed else 'STOPPED'} after {duration(seconds)}: {failure}; see {log}", "bold red"
            )

    def note(self, text: str) -> None:
        """Print a line of the coordinator's own."""
        self._say(text, "yellow")

    def tick(self) -> None:
        """Without a terminal, print what the running units have printed since."""
        if self._live is not None:
            return
        for key in list(self._since):
            log = self._logs[key]
            size = log.stat().st_size if log.is_file() else 0
            if size > self._shown[key]:
                with log.open("rb") as file:
                    file.seek(self._shown[key])
                    text = file.read(size - self._shown[key])
                whole = text[: text.rfind(b"\n") + 1]
                self._shown[key] += len(whole)
                print(whole.decode(errors="replace"), end="", flush=True)

    def close(self) -> None:
        """Restore the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _say(self, text: str, style: str) -> None:
        if self._live is not None:
            self._live.console.print(Text(text, style=style), soft_wrap=True)
        else:
            print(text, flush=True)

    def _left_s(self) -> float | None:
        """Seconds left: what is not done by the weights, at the speed so far; None before anything has ended."""
        done, whole = sum(self._ended.values()), sum(self._weights.values())
        elapsed = time.monotonic() - self._begun
        if not done:
            return None
        under_way = sum(min(self._weights.get(key, 0.0), time.monotonic() - since) for key, since in self._since.items())
        return max(0.0, (whole - done - under_way) * elapsed / (done + under_way))

    def _render(self) -> Group:
        left, elapsed = self._left_s(), duration(time.monotonic() - self._begun)
        head = Table.grid(padding=(0, 1))
        whole = max(1e-9, sum(self._weights.values()))
        about = f"{len(self._ended)} of {len(self._weights)} units, {elapsed}" + (
            "" if left is None else f", about {duration(left)} left"
        )
        head.add_row(ProgressBar(total=whole, completed=sum(self._ended.values()), width=30), Text(about, style="bold"))
        lines = Table.grid(padding=(0, 1))
        for key, since in self._since.items():
            lines.add_row(
                Text(duration(time.monotonic() - since), style="dim"), Text(key, style="cyan"), Text(_progress(self._logs[key]))
            )
        return Group(head, lines)


def last_line(log: Path) -> str:
    """Return the last line that a unit printed, without its label."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        lines = file.read().decode(errors="replace").splitlines()
    # A cluster's own lines say nothing of the result.
    last = next((line for line in reversed(lines) if line.strip() and not line.startswith("submitit ")), "")
    return last.partition("] ")[2] if last.startswith("[") else last


def _progress(log: Path) -> str:
    return last_line(log) or "starts"
