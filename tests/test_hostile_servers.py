"""Servers that do harm or talk nonsense: the right file, or one line."""

import contextlib
import hashlib
import socket
import threading
import time
from dataclasses import replace

import pytest

from pipelines import first_uses, layout
from pipelines.engine import transfer
from pipelines.engine.fetch import fetch
from tests.server import Fault, serving
from tests.test_fetch import CONTENT, QUICK, SHA256, get, left, refusal
from tests.trees import refused

OK = b"HTTP/1.1 200 OK\r\n"
HEAD = OK + b"Content-Length: 300000\r\n\r\n"


@pytest.fixture
def server():
    """A server with one file."""
    with serving() as running:
        running.files["/model.pth"] = CONTENT
        yield running


@contextlib.contextmanager
def saying(*pieces, pause_s=0.0, hold_s=0.0):
    """An address whose every answer is these bytes and the end of the connection."""
    listener = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def answer():
        while not over.is_set():
            with contextlib.suppress(OSError):
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1 << 16)
                    for piece in pieces:
                        connection.sendall(piece)
                        over.wait(pause_s)
                    over.wait(hold_s)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/model.pth"
    finally:
        over.set()
        listener.close()


def refused_from(url, folder, patience=QUICK, **how):
    """The one line with which a fetch from an address fails."""
    line = refused(lambda: fetch(url, folder=folder, patience=patience, **(how or {"sha256": SHA256})))
    assert line.startswith(f"cannot fetch {url}: ")
    assert line.isprintable()
    assert not [name for name in left(folder) if name.endswith("model.pth")]
    return line


ANSWERS = {
    "nothing": b"",
    "garbage": b"\x00\xff\x16\x03\x01" * 20,
    "another protocol": b"SSH-2.0-OpenSSH_9.6\r\n",
    "a status that is none": b"HTTP/1.1 OK fine\r\n\r\n",
    "a status of words": b"HTTP/1.1 404 \x1b[31mred\x07\r\nContent-Length: 0\r\n\r\n",
    "a header without a colon": OK + b"nonsense\r\nContent-Length: nine\r\n\r\nabc",
    "an endless header": OK + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "thousands of headers": OK + b"X: a\r\n" * 5000 + b"\r\n",
    "a negative length": OK + b"Content-Length: -1\r\n\r\nabc",
    "a length beyond counting": OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nabc",
    "two lengths": OK + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "a length in other digits": OK + b"Content-Length: \xb2\r\n\r\nabc",
    "chunks that are none": OK + b"Transfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n",
    "chunks that end early": OK + b"Transfer-Encoding: chunked\r\n\r\nff\r\nabc",
    "a negative chunk": OK + b"Transfer-Encoding: chunked\r\n\r\n-5\r\nabc\r\n0\r\n\r\n",
    "gzip": OK + b"Content-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc",
    "an unknown coding": OK + b"Content-Encoding: \x1bx\r\nContent-Length: 3\r\n\r\nabc",
    "204": b"HTTP/1.1 204 No Content\r\n\r\n",
    "206 unasked": b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 5-7/9\r\nContent-Length: 3\r\n\r\nabc",
    "206 without a range": b"HTTP/1.1 206 Partial Content\r\nContent-Length: 3\r\n\r\nabc",
    "206 of a size beyond counting": b"HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 0-2/" + b"9" * 5000 + b"\r\nContent-Length: 3\r\n\r\nabc",
    "416": b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Range: bytes */0\r\nContent-Length: 0\r\n\r\n",
    "retry after nonsense": b"HTTP/1.1 503 Busy\r\nRetry-After: \xb2\r\nContent-Length: 0\r\n\r\n",
    "retry before": b"HTTP/1.1 503 Busy\r\nRetry-After: -5\r\nContent-Length: 0\r\n\r\n",
    "300": b"HTTP/1.1 300 Multiple Choices\r\nContent-Length: 0\r\n\r\n",
    "a redirect to nowhere": b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n",
    "other bytes": HEAD + CONTENT[::-1],
    "half the bytes": HEAD + CONTENT[:100_000],
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_that_make_no_sense(tmp_path, name):
    """One line that names the address, and no file under its name."""
    with saying(ANSWERS[name]) as url:
        line = refused_from(url, tmp_path)

    assert len(line) < 800


@pytest.mark.parametrize(
    "location",
    [
        "file:///etc/passwd", "ftp://127.0.0.1/x", "javascript:alert(1)", "data:,x", "http://", "http:///x", "http://[::1", "http://127.0.0.1:port/x",
        "http://127.0.0.1:99999/x", "http://127.0.0.1:-1/x", "http://exa mple/x", "http://\xe9\xe9.invalid/x", "//", "", "http://xn--/x", "http://" + "a" * 300 + "/x",
        "\x00", "http://127.0.0.1\\@127.0.0.2:1/",
    ],
)  # fmt: skip
def test_redirects_that_lead_nowhere(tmp_path, location):
    """Malformed, to another scheme, or to nobody: one line, and quickly."""
    head = b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + location.encode("latin-1") + b"\r\n\r\n"
    with saying(head) as url:
        refused_from(url, tmp_path)


def test_a_redirect_to_a_name_that_is_not_ascii(server, tmp_path):
    """Encoded as browsers do, and followed."""
    server.always["/old.pth"] = Fault(status=302, headers={"Location": "/n\xc3\xa9w.pth"})
    server.files["/n%C3%A9w.pth"] = CONTENT

    assert get(server, tmp_path, path="/old.pth").read_bytes() == CONTENT


def test_a_dripping_server_is_left(tmp_path):
    """A byte every tenth of a second is no download; two windows of half a second are enough to know."""
    start_s = time.monotonic()
    with saying(HEAD, *[b"x"] * 200, pause_s=0.05) as url:
        line = refused_from(url, tmp_path, patience=replace(QUICK, attempts=2, read_s=0.5))

    assert " bytes in " in line
    assert time.monotonic() - start_s < 9


@pytest.mark.parametrize("size", [None, len(CONTENT)], ids=["digest", "digest and size"])
def test_a_wrong_length_over_the_right_bytes(server, tmp_path, size):
    """A server that always promises more: the digest decides."""
    server.always["/model.pth"] = Fault(ranges=False, headers={"Content-Length": str(len(CONTENT) + 9)})

    assert get(server, tmp_path, size=size).read_bytes() == CONTENT
    assert len(server.asked) == 2


@pytest.mark.parametrize("length", [len(CONTENT) - 9, len(CONTENT) + 9])
def test_a_wrong_length_without_a_digest(server, tmp_path, length):
    """Nothing tells that the bytes are right: one line."""
    server.always["/model.pth"] = Fault(ranges=False, headers={"Content-Length": str(length)})
    line = refused(lambda: fetch(f"{server.url}/model.pth", folder=tmp_path, size=len(CONTENT), patience=QUICK))

    assert f"has {length} bytes, recorded are {len(CONTENT)}" in line


def test_a_file_of_no_stated_size_has_a_cap(tmp_path, monkeypatch):
    """No length, no recorded size: it ends at the cap, or where the disk does."""
    monkeypatch.setattr(transfer, "_MOST_BYTES", 100_000)
    with saying(OK + b"\r\n" + CONTENT) as url:
        assert "no recorded size" in refused_from(url, tmp_path)


def test_a_stated_size_without_a_recorded_one_has_the_cap_too(server, tmp_path, monkeypatch):
    """Known from the head."""
    monkeypatch.setattr(transfer, "_MOST_BYTES", 100_000)

    assert "no recorded size" in refusal(server, tmp_path)


def test_first_use_is_held(tmp_path, monkeypatch):
    """The whole digest is entered once; another file of the same leading digits is refused, and the way out is named."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.pth"
    path.write_bytes(b"first")
    digest = hashlib.sha256(b"first").hexdigest()
    address = "https://publisher.example/model-12345678.pth"
    first_uses.check(address, path, digest)
    first_uses.note(address, path, digest)
    written = layout.FIRST_USES.read_text()
    first_uses.note(address, path, "0" * 64)
    first_uses.check(address, path, digest)
    line = refused(first_uses.check, address, path, digest[:8] + "0" * 56)

    assert layout.FIRST_USES.read_text() == written
    assert digest in written
    assert address in line
    assert "artefacts.lock" in line
