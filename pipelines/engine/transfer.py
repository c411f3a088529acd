"""One file over HTTP into a partial file: resumed where it was cut, and never glued from two versions.

Ranges, ``If-Range`` and ``Content-Range`` as in RFC 9110, sections 13.1.5 and 14; ``Retry-After`` as in its section 10.2.3.
"""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from pipelines.engine.progress import Progress

_BLOCK = 1 << 16  # at most this much of what has arrived is lost when a connection is cut
_SPARE_BYTES = 64 << 20  # stays free on the disk
_MOST_BYTES = 32 << 30  # of a file whose size nobody states
_LEAST_BYTES_PER_S = 1024  # over the time in which a server must answer
_HEADERS = {"Accept-Encoding": "identity", "User-Agent": "kd-reproducibility"}
_MOVED = (301, 302, 303, 307, 308)
_PASSING = (408, 425, 429)  # of the client errors, those that a later try may not meet


@dataclass(frozen=True)
class Patience:
    """Time-outs, attempts and waits.

    ``attempts`` counts tries in a row that brought nothing new; the wait between two doubles from ``wait_s``.
    A server's ``Retry-After`` is kept to, up to ``longest_wait_s``.
    """

    connect_s: float = 15.0
    read_s: float = 60.0
    attempts: int = 6
    wait_s: float = 1.0
    longest_wait_s: float = 120.0


class RefusedError(Exception):
    """Trying again would not help; ``remedy`` is what would, where it is not a download by hand."""

    def __init__(self, reason: str, remedy: str | None = None) -> None:
        super().__init__(reason)
        self.remedy = remedy


class _CutError(Exception):
    """An attempt failed, and the next may not; ``wait_s`` where the server says how long, ``drips`` where it gave next to nothing."""

    def __init__(self, reason: str, wait_s: float | None = None, *, drips: bool = False) -> None:
        super().__init__(reason)
        self.wait_s = wait_s
        self.drips = drips


def check_room(folder: Path, needed: int) -> None:
    """Make sure that the disk takes so many bytes more.

    Raises:
        RefusedError: it does not; the message says how much is missing.
    """
    missing = needed + _SPARE_BYTES - shutil.disk_usage(folder).free
    if missing > 0:
        raise RefusedError(
            f"{needed / 1e6:.0f} MB do not fit on the disk of {folder}, {missing / 1e6:.0f} MB are missing",
            f"free {missing / 1e6:.0f} MB there, or name a folder on another disk, and run again",
        )


@dataclass
class Transfer:
    """One file on its way.

    ``<part>.origin`` beside the partial file says which version of the file it is a part of; without a strong
    ETag or a date of the server two versions cannot be distinguished, and the file is started over.

    Args:
        url: where from.
        part: the partial file.
        size: bytes of the whole file, where known.
        patience: time-outs, attempts and waits.
        progress: called for every block.
        stop: ends the transfer; what has arrived stays for the next time.
        is_whole: tells by its digest whether the partial file is the whole one, whatever length the server states; None: none is known.
    """

    url: str
    part: Path
    size: int | None
    patience: Patience
    progress: Progress
    stop: threading.Event
    is_whole: Callable[[], bool] | None = None
    continued: bool = False  # whether the file was put together from more than one answer

    def run(self) -> None:
        """Download to the partial file, trying again as long as that may help.

        Raises:
            RefusedError: the server's answer is final, the attempts are used up, or the disk is full.
        """
        failures, furthest, ended = 0, self._length(), -1
        with requests.Session() as session:
            while True:
                try:
                    return self._attempt(session)
                except _CutError as cut:
                    # Twice cut at the same byte: the stated length may be the wrong one.
                    if ended == self._length() > 0 and self.is_whole is not None and self.is_whole():
                        return None
                    # A file of many gigabytes may be cut more often than a server is requested in vain.
                    failures = 1 if self._length() > furthest and not cut.drips else failures + 1
                    furthest, ended = max(furthest, self._length()), self._length()
                    if failures >= self.patience.attempts:
                        raise RefusedError(f"{cut} (tried {failures} times without getting further)") from cut
                    self._wait(cut, failures)

    def _wait(self, cut: _CutError, failures: int) -> None:
        doubled_s = self.patience.wait_s * 2 ** (failures - 1)
        wait_s = min(doubled_s if cut.wait_s is None else cut.wait_s, self.patience.longest_wait_s)
        self.progress.say(f"{cut}; trying again in {wait_s:.0f} s")
        if self.stop.wait(wait_s):
            raise RefusedError("stopped", "run again: it goes on where it was")

    def _attempt(self, session: requests.Session) -> None:
        validator, total = self._origin()
        start = self._length() if validator else 0
        if start and start == total:
            return  # whole, but its process ended before it was checked
        headers = {**_HEADERS, "Range": f"bytes={start}-", "If-Range": validator} if start and validator else _HEADERS
        timeout = (self.patience.connect_s, self.patience.read_s)
        try:
            with session.get(self.url, headers=headers, stream=True, timeout=timeout) as response:
                start, total = self._judge(response, start, validator)
                check_room(self.part.parent, (total or 0) - start)
                self.continued = start > 0
                version = {"url": self.url, "validator": _validator(response) or (validator if start else None), "total": total}
                self._origin_file().write_text(json.dumps(version), encoding="utf-8")
                self._receive(response, start, total)
        except (requests.exceptions.SSLError, requests.TooManyRedirects) as error:
            raise RefusedError(_plain(error)) from error
        except (requests.ConnectionError, requests.Timeout, HTTPError) as error:
            raise _CutError(_plain(error)) from error
        except (requests.RequestException, ValueError) as error:  # an address or a header that is none
            raise RefusedError(f"the server's answer or the address in it is malformed ({_plain(error)})") from error

    def _judge(self, response: requests.Response, start: int, validator: str | None) -> tuple[int, int | None]:
        """Return the first byte of the answer, and the number of bytes of the whole file."""
        status = response.status_code
        if status in _PASSING or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _CutError(f"the server answers {status} {_words(response.reason)}".rstrip(), _retry_after_s(response))
        if status not in {requests.codes.ok, requests.codes.partial_content, requests.codes.requested_range_not_satisfiable}:
            without = " without saying where the file is" if response.is_redirect or status in _MOVED else ""
            raise RefusedError(f"the server answers {status} {_words(response.reason)}".rstrip() + without)
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):
            raise _web_page()
        if (coding := response.headers.get("Content-Encoding", "identity").lower()) not in {"", "identity"}:
            raise RefusedError(f"the server sends the file in another coding ({_words(coding)}), which was not requested")
        if status == requests.codes.ok:
            length = response.headers.get("Content-Length", "")
            begin, total = 0, int(length) if re.fullmatch(r"[0-9]{1,18}", length) else self.size
        else:
            span = re.fullmatch(r"bytes ([0-9]{1,18})-[0-9]{1,18}/([0-9]{1,18})", response.headers.get("Content-Range", ""))
            begin, total = (int(span[1]), int(span[2])) if span else (-1, None)
            # An answer to If-Range may leave the validator out, but not give another.
            if begin != start or _validator(response) not in {None, validator}:
                self._origin_file().unlink(missing_ok=True)
                raise _CutError("the file has changed on the server, or what it sends does not continue it; starting over", 0)
        if self.size is not None and self.is_whole is not None and status == requests.codes.ok and (total or 0) > self.size:
            total = self.size  # the header may be wrong over the right bytes, and what comes tells
        if self.size is not None and total != self.size:
            raise RefusedError(f"the server's file has {total} bytes, recorded are {self.size}")
        if self.size is None and total is not None and total > _MOST_BYTES:
            raise _too_large(total)
        return begin, total

    def _receive(self, response: requests.Response, start: int, total: int | None) -> None:
        self.progress.begin(start, total)
        done = start
        most = total if total is not None else min(_MOST_BYTES, shutil.disk_usage(self.part.parent).free - _SPARE_BYTES)
        began_s, begun_at = time.monotonic(), done
        with self.part.open("ab" if start else "wb") as file:
            while block := response.raw.read1(_BLOCK, decode_content=False):
                if done == 0 and block.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
                    raise _web_page()
                file.write(block)
                done += len(block)
                self.progress.advance(len(block))
                if done > most:
                    raise RefusedError(f"the server sends more than the {total} bytes of the file") if total else _too_large(most)
                if self.stop.is_set():
                    raise RefusedError("stopped", "run again: it goes on where it was")
                if time.monotonic() - began_s > self.patience.read_s:
                    if done - begun_at < _LEAST_BYTES_PER_S * self.patience.read_s:
                        raise _CutError(f"the server sent {done - begun_at} bytes in {self.patience.read_s:.0f} s", drips=True)
                    began_s, begun_at = time.monotonic(), done
        if total is not None and done < total:
            raise _CutError(f"the connection was cut after {done} of {total} bytes")

    def _length(self) -> int:
        return self.part.stat().st_size if self.part.exists() else 0

    def _origin_file(self) -> Path:
        return self.part.with_name(f"{self.part.name}.origin")

    def _origin(self) -> tuple[str | None, int | None]:
        """Version and length of the file that the partial one belongs to."""
        try:
            origin: dict[str, Any] = json.loads(self._origin_file().read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None, None
        return (origin["validator"], origin["total"]) if origin["url"] == self.url else (None, None)

    def discard(self) -> None:
        """Remove the partial file."""
        self.part.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Remove what was noted about the partial file."""
        self._origin_file().unlink(missing_ok=True)


def _validator(response: requests.Response) -> str | None:
    """Return the identifier of this version of the file; a weak ETag is none for ranges."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified")


def _retry_after_s(response: requests.Response) -> float | None:
    """Seconds to wait by the server's Retry-After, given as such or as a date."""
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    try:
        return max(0.0, (parsedate_to_datetime(value) - datetime.now(timezone.utc)).total_seconds())
    except (TypeError, ValueError):
        return None


def _too_large(num_bytes: int) -> RefusedError:
    return RefusedError(f"the file has no recorded size, and the server sends at least {num_bytes / 1e9:.0f} GB")


def _words(text: object) -> str:
    """Return what a server says in one line of at most 200 letters that a terminal can print."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text or ""))[:200].strip()


def _web_page() -> RefusedError:
    return RefusedError("the server answers with a web page (a login, consent or error page) instead of the file")


def _plain(error: Exception) -> str:
    """Return a network error without the nesting of its libraries."""
    if isinstance(error, (requests.Timeout, ReadTimeoutError)):
        return "the server did not answer in time"
    if isinstance(error, HTTPError):
        return "the connection was cut"
    inner = error.args[0] if error.args and not isinstance(error, UnicodeError) else error
    return _words(" ".join(str(getattr(inner, "reason", inner)).split()))
