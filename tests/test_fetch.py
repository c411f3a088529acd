"""Fetching against a local server that does everything wrong a server can."""

import datetime as dt
import hashlib
import json
import multiprocessing
import re
import shutil
import threading
import time
from dataclasses import replace
from email.utils import format_datetime
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipelines.engine import fetch as fetching
from pipelines.engine.fetch import Download, fetch, fetch_many
from pipelines.engine.transfer import Patience
from tests.server import Fault, serving

CONTENT = np.random.default_rng(0).bytes(300_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()
ETAG = f'"{SHA256[:16]}"'
BLOCK = 1 << 16  # at most so much of what arrived may be lost with a connection
QUICK = Patience(connect_s=5, read_s=5, attempts=3, wait_s=0.01, longest_wait_s=0.2)


@pytest.fixture
def server():
    """A server with one file."""
    with serving() as running:
        running.files["/model.pth"] = CONTENT
        yield running


def get(server, folder, path="/model.pth", sha256=SHA256, patience=QUICK, **arguments):
    """Fetch with little patience."""
    return fetch(server.url + path, folder=folder, sha256=sha256, patience=patience, **arguments)


def refusal(server, folder, **arguments):
    """The one line with which a fetch fails."""
    with pytest.raises(ValueError, match=r"cannot fetch http://127\.0\.0\.1") as caught:
        get(server, folder, **arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def left(folder):
    """Names of the files in a folder, but for locks."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


def test_a_file_is_fetched_once(server, tmp_path):
    """By the leading digits, into a name that begins with them; then not asked for again."""
    path = get(server, tmp_path / "new", sha256=SHA256[:8])

    assert path == tmp_path / "new" / f"{SHA256[:8]}-model.pth"
    assert path.read_bytes() == CONTENT
    assert get(server, tmp_path / "new", sha256=SHA256[:8]) == path
    assert server.sent == [len(CONTENT)]
    assert left(path.parent) == [path.name, f"{path.name}.verified"]


def test_it_is_hashed_once_and_again_when_it_changed(server, tmp_path, monkeypatch):
    """The note is trusted while size and time of change hold; a damaged file is refused and stays where it is."""
    path = get(server, tmp_path)
    hashed = []
    digest = fetching.file_digest
    monkeypatch.setattr(fetching, "file_digest", lambda *arguments: hashed.append(arguments) or digest(*arguments))
    get(server, tmp_path)
    assert not hashed

    path.write_bytes(b"x" + CONTENT[1:])
    with pytest.raises(ValueError, match=rf"{path.name} .*sha256 .*{SHA256}"):
        get(server, tmp_path)
    assert len(hashed) == 1
    assert path.read_bytes()[:1] == b"x"


def test_another_digest_is_not_satisfied_by_an_old_note(server, tmp_path):
    """Same first digits and name, but another digest recorded."""
    get(server, tmp_path)

    with pytest.raises(ValueError, match=f"{SHA256[:8]}-model.pth .*sha256 .*{'0' * 56}"):
        get(server, tmp_path, sha256=SHA256[:8] + "0" * 56)


def test_a_cut_connection_is_resumed(server, tmp_path):
    """Cut twice: of what had arrived at most a block a cut is sent again."""
    server.faults["/model.pth"] = [Fault(cut_after=150_000), Fault(cut_after=100_000)]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent[:2] == [150_000, 100_000]
    starts = [int(span.removeprefix("bytes=").removesuffix("-")) for _, span in server.asked[1:]]
    assert 150_000 - BLOCK <= starts[0] <= 150_000
    assert starts[0] + 100_000 - BLOCK <= starts[1] <= starts[0] + 100_000
    assert server.sent[2] == len(CONTENT) - starts[1]


def test_a_later_process_goes_on(server, tmp_path):
    """Continue with the part that an earlier process left."""
    server.always["/model.pth"] = Fault(cut_after=0)
    server.faults["/model.pth"] = [Fault(cut_after=200_000)]
    assert "the connection was cut" in refusal(server, tmp_path)
    server.always.clear()
    server.sent.clear()

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert sum(server.sent) <= 100_000 + BLOCK


def test_more_cuts_than_attempts_are_no_failure_while_it_gets_further(server, tmp_path):
    """Attempts count those in a row that brought nothing."""
    server.faults["/model.pth"] = [Fault(cut_after=BLOCK) for _ in range(4)]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert QUICK.attempts < len(server.sent)


def leave_part(server, folder, content, etag):
    """A partial file as an earlier process would have left it."""
    part = folder / f"{SHA256[:8]}-model.pth.part"
    part.write_bytes(content)
    origin = {"url": f"{server.url}/model.pth", "validator": etag, "total": len(CONTENT)}
    part.with_name(f"{part.name}.origin").write_text(json.dumps(origin))


def test_a_whole_part_is_not_fetched_again(server, tmp_path):
    """Killed between the last byte and the check."""
    leave_part(server, tmp_path, CONTENT, ETAG)

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert not server.asked


def test_a_file_that_changes_between_attempts_is_not_glued(server, tmp_path):
    """The version is asked for with If-Range; the answer is then the whole new file."""
    server.faults["/model.pth"] = [Fault(cut_after=150_000, body=bytes(300_000))]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[1][1] is not None
    assert server.sent[1] == len(CONTENT)


@pytest.mark.parametrize(
    "headers",
    [{"ETag": '"another"'}, {"Content-Range": "bytes 7-299999/300000"}, {"Content-Range": "nonsense"}],
    ids=["version", "start", "nonsense"],
)
def test_a_range_that_does_not_continue_ours_starts_over(server, tmp_path, headers):
    """A server that answers 206 with another version or another place."""
    server.faults["/model.pth"] = [Fault(cut_after=150_000), Fault(headers=headers)]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.asked[2][1] is None


def test_a_range_without_a_version_is_gone_on_with(server, tmp_path):
    """An answer to If-Range need not repeat the version (RFC 9110, 15.3.7)."""
    leave_part(server, tmp_path, CONTENT[:200_000], ETAG)
    server.faults["/model.pth"] = [Fault(headers={"ETag": ""}, cut_after=50_000)]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert sum(server.sent) <= 100_000 + BLOCK


def test_a_glued_file_of_the_wrong_digest_is_fetched_once_more(server, tmp_path):
    """The server gave one ETag to two contents: the digest tells, and a whole answer is right."""
    leave_part(server, tmp_path, bytes(200_000), ETAG)

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent == [100_000, 300_000]


def test_a_part_of_another_version_is_not_gone_on_with(server, tmp_path):
    """Left by an earlier process, of a file that is another today."""
    leave_part(server, tmp_path, bytes(200_000), '"yesterday"')

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert server.sent == [300_000]


def test_without_ranges_it_starts_over(server, tmp_path):
    """No version, no Range: the second answer is the whole file."""
    server.always["/model.pth"] = Fault(ranges=False)
    server.faults["/model.pth"] = [Fault(ranges=False, cut_after=100_000)]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert [span for _, span in server.asked] == [None, None]


def test_silence_is_a_cut(server, tmp_path):
    """Silent at once, then in the middle; each is left after the time-out."""
    server.faults["/model.pth"] = [Fault(late_s=9), Fault(silent_s=9, cut_after=150_000)]
    start_s = time.monotonic()

    assert get(server, tmp_path, patience=replace(QUICK, read_s=0.5)).read_bytes() == CONTENT
    assert 1 < time.monotonic() - start_s < 8
    assert sum(server.sent) <= 150_000 + 300_000


def test_a_silent_server_is_named(server, tmp_path):
    """Nothing comes, ever."""
    server.always["/model.pth"] = Fault(late_s=9)

    line = refusal(server, tmp_path, patience=replace(QUICK, read_s=0.2))
    assert "did not answer in time (tried 3 times" in line


def test_nobody_listens(tmp_path):
    """A port without a server."""
    with serving() as stopped:
        pass

    assert "refused" in refusal(stopped, tmp_path)


@pytest.mark.parametrize("status", [500, 502, 503, 429, 408])
def test_a_passing_error_is_tried_again(server, tmp_path, status):
    """Once an error, then fine."""
    server.faults["/model.pth"] = [Fault(status=status)]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_a_lasting_error_ends(server, tmp_path):
    """500 always: as many tries as said."""
    server.always["/model.pth"] = Fault(status=500)

    line = refusal(server, tmp_path)
    assert "500 Internal Server Error (tried 3 times" in line
    assert f"by hand to this path: {tmp_path}/{SHA256[:8]}-model.pth," in line
    assert len(server.asked) == 3


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_a_final_error_is_asked_once(server, tmp_path, status):
    """Not there, not allowed."""
    server.always["/model.pth"] = Fault(status=status)

    assert f" {status} " in refusal(server, tmp_path)
    assert len(server.asked) == 1


def test_retry_after_is_kept_to(server, tmp_path):
    """Seconds that the server names, instead of the shorter ones of our own."""
    server.faults["/model.pth"] = [Fault(status=429, headers={"Retry-After": "1"})]
    patience = Patience(wait_s=0.01, longest_wait_s=5)
    start_s = time.monotonic()
    fetch(f"{server.url}/model.pth", folder=tmp_path, sha256=SHA256, patience=patience)

    assert 1 <= time.monotonic() - start_s < 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_is_capped(server, tmp_path, as_date):
    """An hour, as seconds or as a date, is not waited for."""
    later = dt.datetime.now(dt.timezone.utc) + dt.timedelta(hours=1)
    value = format_datetime(later, usegmt=True) if as_date else "3600"
    server.faults["/model.pth"] = [Fault(status=503, headers={"Retry-After": value})]
    start_s = time.monotonic()

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert QUICK.longest_wait_s <= time.monotonic() - start_s < 2


def test_a_redirect_is_followed(server, tmp_path):
    """Also when resuming; the name is the asked one's."""
    server.always["/old/name.pth"] = Fault(status=302, headers={"Location": f"{server.url}/model.pth"})
    server.faults["/model.pth"] = [Fault(cut_after=150_000)]
    path = get(server, tmp_path, path="/old/name.pth")

    assert path.name.endswith("-name.pth")
    assert path.read_bytes() == CONTENT
    assert sum(server.sent) <= len(CONTENT) + BLOCK


def test_a_circle_of_redirects_ends(server, tmp_path):
    """Not tried again."""
    server.always["/model.pth"] = Fault(status=301, headers={"Location": f"{server.url}/model.pth"})

    assert "redirects" in refusal(server, tmp_path)
    assert len(server.asked) < 40


@pytest.mark.parametrize(
    "fault",
    [
        Fault(headers={"Content-Type": "text/html; charset=utf-8"}),
        Fault(body=b"\n<!DOCTYPE html><title>Sign in</title>"),
        Fault(body=b"<html><body>too many downloads"),
    ],
    ids=["type", "doctype", "html"],
)
def test_a_web_page_is_no_file(server, tmp_path, fault):
    """Status 200, and a login page."""
    server.always["/model.pth"] = fault

    assert "answers with a web page" in refusal(server, tmp_path)
    assert len(server.asked) == 1


def test_wrong_bytes_are_refused_and_not_kept(server, tmp_path):
    """Another file under the same address."""
    server.always["/model.pth"] = Fault(body=CONTENT[::-1])

    line = refusal(server, tmp_path)
    assert f"sha256 is {hashlib.sha256(CONTENT[::-1]).hexdigest()}" in line
    assert len(server.asked) == 1
    assert left(tmp_path) == []


def test_a_length_below_the_recorded_is_seen_before_the_bytes(server, tmp_path):
    """A file that is shorter by its header cannot be the recorded one."""
    longer = len(CONTENT) + 1

    assert f" {len(CONTENT)} bytes, recorded are {longer}" in refusal(server, tmp_path, size=longer)
    assert not (tmp_path / f"{SHA256[:8]}-model.pth.part").exists()


def test_more_bytes_than_recorded_are_not_received(server, tmp_path):
    """A file that is longer than the recorded one ends at its length."""
    assert "sends more than the 7 bytes" in refusal(server, tmp_path, size=7)


def test_a_header_that_promises_more_than_comes_is_a_cut(server, tmp_path):
    """Content-Length is wrong once."""
    server.faults["/model.pth"] = [Fault(ranges=False, headers={"Content-Length": str(len(CONTENT) + 9)})]

    assert get(server, tmp_path).read_bytes() == CONTENT
    assert len(server.asked) == 2


def test_md5_or_size_alone(server, tmp_path):
    """The two digests that publishers of archives give."""
    md5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    by_md5 = get(server, tmp_path, sha256=None, md5=md5)
    by_size = get(server, tmp_path, sha256=None, size=len(CONTENT))

    assert by_md5.name == f"{md5[:8]}-model.pth"
    assert by_size.read_bytes() == by_md5.read_bytes() == CONTENT
    assert by_size != by_md5
    with pytest.raises(ValueError, match="its md5 is"):
        get(server, tmp_path, sha256=None, md5="0" * 32)
    with pytest.raises(ValueError, match=r"model\.pth .*sha256, md5 or size"):
        get(server, tmp_path, sha256=None)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/a.zip", "https://host/", "model.pth"])
def test_other_addresses_are_refused(tmp_path, url):
    """Only http and https, and a name."""
    with pytest.raises(ValueError, match=re.escape(url)):
        fetch(url, folder=tmp_path, sha256=SHA256)


def test_a_name_cannot_leave_the_folder(server, tmp_path):
    """Quoted slashes and odd characters."""
    server.files["/a/..%2F..%2Fneck%2Bhead%20x.pth"] = CONTENT
    path = get(server, tmp_path, path="/a/..%2F..%2Fneck%2Bhead%20x.pth")

    assert path == tmp_path / f"{SHA256[:8]}-neck+head_x.pth"


def test_a_file_put_there_by_hand_is_used(server, tmp_path):
    """The remedy that every error names works: verified, and the server is not asked."""
    server.always["/model.pth"] = Fault(status=404)
    hand = Path(refusal(server, tmp_path).split("to this path: ")[1].split(", then")[0])
    hand.write_bytes(CONTENT)
    server.asked.clear()

    assert get(server, tmp_path) == hand
    assert not server.asked


def test_a_full_disk_is_seen_before_the_bytes(server, tmp_path, monkeypatch):
    """The line says how much is missing."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 2**20 + len(CONTENT) - 200_000_000))

    line = refusal(server, tmp_path)
    assert re.search(rf"0 MB do not fit on the disk of {tmp_path}, 200 MB are missing", line)
    assert left(tmp_path) == []


def test_several_files_must_fit_together(server, tmp_path, monkeypatch):
    """Each would fit alone; nothing is begun."""
    server.files |= {"/a": bytes(60_000_000), "/b": bytes(60_000_000)}
    jobs = [Download(f"{server.url}/{name}", tmp_path, size=60_000_000) for name in "ab"]
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=64 * 2**20 + 100_000_000))

    with pytest.raises(ValueError, match=r"2 files: 120 MB .*\b20 MB are missing"):
        fetch_many(jobs)
    assert not server.asked


def test_a_disk_that_fills_up_is_one_line(server, tmp_path, monkeypatch):
    """The write itself fails: not a fault of the network, so not tried again."""

    def full(*_arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipelines.engine.transfer.Transfer._receive", full)
    with pytest.raises(ValueError, match=r"\S+-model\.pth .*: No space left on device"):
        get(server, tmp_path)
    assert len(server.asked) == 1


def fetch_and_report(url, folder, queue):
    """The work of each of two processes."""
    queue.put(fetch(url, folder=Path(folder), sha256=SHA256, patience=QUICK).read_bytes() == CONTENT)


def test_two_processes_share_one_download(server, tmp_path, capfd):
    """One downloads, slowly; the other waits and uses the file."""
    server.faults["/model.pth"] = [Fault(cut_after=150_000, silent_s=0.2)]
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    url = f"{server.url}/model.pth"
    processes = [context.Process(target=fetch_and_report, args=(url, tmp_path, queue)) for _ in range(2)]
    for process in processes:
        process.start()
    results = [queue.get(timeout=20) for _ in processes]
    for process in processes:
        process.join(timeout=20)

    assert results == [True, True]
    assert sum(server.sent) <= len(CONTENT) + BLOCK
    assert "another process" in capfd.readouterr().out


def test_at_most_two_connections(server, tmp_path):
    """Six files, asked for eight at a time; they come back in the order of the jobs."""
    names = [f"/{number}.bin" for number in range(6)]
    for number, name in enumerate(names):
        server.files[name] = bytes([number]) * 1000
        server.faults[name] = [Fault(late_s=0.1)]
    paths = fetch_many([Download(server.url + name, tmp_path, size=1000) for name in names], parallel=8, patience=QUICK)

    assert [path.read_bytes()[0] for path in paths] == list(range(6))
    assert server.most_at_once == 2


def test_one_bad_file_does_not_stop_the_others(server, tmp_path):
    """The good ones are there; the bad ones are named in one line."""
    server.files["/good.bin"] = b"good"
    jobs = [Download(f"{server.url}/{name}", tmp_path, size=4) for name in ("gone.bin", "good.bin", "lost.bin")]

    with pytest.raises(ValueError, match=r"^cannot fetch \S+gone\.bin: .*; cannot fetch \S+lost\.bin: [^\n]*$"):
        fetch_many(jobs, patience=QUICK)
    assert jobs[1].target.read_bytes() == b"good"


def test_an_interrupt_stops_what_is_under_way(server, tmp_path):
    """The rest is kept for the next time."""
    server.always["/model.pth"] = Fault(status=503)
    stop = threading.Event()
    threading.Timer(0.2, stop.set).start()
    start_s = time.monotonic()

    with pytest.raises(ValueError, match="stopped"):
        fetching._fetch(Download(f"{server.url}/model.pth", tmp_path, SHA256), Patience(wait_s=30), live=False, stop=stop)
    assert time.monotonic() - start_s < 5


def test_progress_is_told_in_lines(server, tmp_path, capsys):
    """No terminal: few lines, with the label, no control characters."""
    get(server, tmp_path, label="teacher")
    lines = capsys.readouterr().out.splitlines()

    assert lines[0] == "teacher: 0.0 of 0.3 MB (0 %)"
    assert lines[-1].startswith("teacher: 0.3 of 0.3 MB (100 %), ")
    assert len(lines) == 2
