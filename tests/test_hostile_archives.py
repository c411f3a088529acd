"""Archives made to do harm, or broken: one line that names them, nothing outside their folder, no half file under its name."""

import bz2
import gzip
import io
import lzma
import stat
import struct
import tarfile
import zipfile

import pytest

from pipelines.engine import archives
from pipelines.engine.archives import unpack
from tests.trees import refused

GOOD = ("train/good.jpg", b"good" * 1000)


def zipped(*members, compression=zipfile.ZIP_DEFLATED):
    """A zip of names and contents; a name may be a ZipInfo."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        for name, content in (GOOD, *members):
            archive.writestr(name, content)
    return buffer.getvalue()


def folders():
    """A zip of a folder and nothing else."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/", b"")
    return buffer.getvalue()


def unix(name, mode):
    """A zip member of another kind than a file."""
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def entry(name, content=b"", kind=tarfile.REGTYPE, link="", size=None):
    """A member of a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content) if size is None else size
    return info, content


def tarred(*members, form=tarfile.PAX_FORMAT, good=GOOD):
    """A tar of members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form, encoding="utf-8", errors="surrogateescape") as archive:
        for info, content in (*([entry(*good)] if good else []), *members):
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def patched(content, old, new, count=-1):
    """Bytes with others in place of some, which must be there."""
    assert old in content
    return content.replace(old, new, count)


def big_zip(size):
    """A zip whose one member says that it has so many bytes."""
    content = zipped(("x.bin", b"0" * 100))
    at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1) + 24
    return content[:at] + struct.pack("<I", size) + content[at + 4 :]


def flagged_zip(offset, value):
    """A zip whose second member has another field, in its head and in the directory."""
    content = bytearray(zipped(("x.bin", b"0" * 100)))
    head = content.index(b"PK\x03\x04", 4)
    entry_at = content.index(b"PK\x01\x02", content.index(b"PK\x01\x02") + 1)
    for at in (head + offset, entry_at + offset + 2):
        content[at : at + 2] = struct.pack("<H", value)
    return bytes(content)


ZIP, TAR = zipped(("a/b.jpg", b"b" * 5000)), tarred(entry("a/b.jpg", b"b" * 5000))
GZ = gzip.compress(TAR)
OUT = ["../evil", "train/../../evil", "/tmp/evil", "..", "a/..", "..\\evil", "C:/evil", "C:\\evil", "//evil", "/"]  # noqa: S108 (refused)
CASES = {
    **{f"zip leaves by {name}": (".zip", zipped((unix(name, 0o100644), b"x"))) for name in OUT if not name.endswith("/")},
    **{f"tar leaves by {name}": (".tar", tarred(entry(name, b"x"))) for name in OUT},
    "zip symlink": (".zip", zipped((unix("link", stat.S_IFLNK | 0o777), b"/etc"), ("link/evil", b"x"))),
    "zip device": (".zip", zipped((unix("device", stat.S_IFCHR | 0o666), b""))),
    "zip fifo": (".zip", zipped((unix("fifo", stat.S_IFIFO | 0o666), b""))),
    "tar symlink": (".tar", tarred(entry("link", kind=tarfile.SYMTYPE, link="/etc"), entry("link/evil", b"x"))),
    "tar symlink inside": (".tar", tarred(entry("link", kind=tarfile.SYMTYPE, link="train"))),
    "tar link to a link": (".tar", tarred(entry("one", kind=tarfile.SYMTYPE, link=".."), entry("two", kind=tarfile.SYMTYPE, link="one/.."))),
    "tar hard link": (".tar", tarred(entry("link", kind=tarfile.LNKTYPE, link="/etc/passwd"))),
    "tar hard link inside": (".tar", tarred(entry("link", kind=tarfile.LNKTYPE, link="train/good.jpg"))),
    "tar character device": (".tar", tarred(entry("device", kind=tarfile.CHRTYPE))),
    "tar block device": (".tar", tarred(entry("device", kind=tarfile.BLKTYPE))),
    "tar fifo": (".tar", tarred(entry("fifo", kind=tarfile.FIFOTYPE))),
    "tar unknown kind": (".tar", tarred(entry("odd", kind=b"Z", link="x"), entry("odd2", kind=tarfile.SYMTYPE, link="x"))),
    "zip twice": (".zip", zipped(("train/./good.jpg", b"other"))),
    "tar twice": (".tar", tarred(entry(GOOD[0], b"other"))),
    "zip file and folder": (".zip", zipped(("a", b"x"), ("a/b", b"x"))),
    "tar file and folder": (".tar", tarred(entry("a/b", b"x"), entry("a", b"x"))),
    "zip long name": (".zip", zipped(("n" * 300, b"x"))),
    "tar long name": (".tar", tarred(entry("n" * 300, b"x"))),
    "tar long name in bytes": (".tar", tarred(entry("\u4e2d" * 100, b"x"))),
    "tar NUL in a name": (".tar", patched(tarred(entry("a" * 200 + "!evil", b"x")), b"!evil", b"\x00evil")),
    "zip line's end in a name": (".zip", zipped(("a\nb", b"x"))),
    "tar escape in a name": (".tar", tarred(entry("\x1b[31m", b"x"))),
    "tar name of other bytes": (".tar", tarred(entry("caf\udce9", b"x"), form=tarfile.GNU_FORMAT)),
    "zip name of a dot": (".zip", zipped((".", b"x"))),
    "tar name of a dot": (".tar", tarred(entry(".", b"x"))),
    "tar empty name": (".tar", tarred(entry("", b"x"))),
    "zip encrypted": (".zip", flagged_zip(6, 1)),
    "zip unknown compression": (".zip", flagged_zip(8, 97)),
    "zip strong encryption": (".zip", flagged_zip(6, 0x41)),
    "zip patched data": (".zip", flagged_zip(6, 0x20)),
    "zip wrong CRC": (".zip", patched(zipped(("x.bin", b"0123456789"), compression=zipfile.ZIP_STORED), b"0123456789", b"9876543210")),
    "zip damaged deflate": (".zip", ZIP[:45] + b"\xff" * 8 + ZIP[53:]),
    "zip wrong head": (".zip", b"PK\x03\x05" + ZIP[4:]),
    "zip says too much": (".zip", big_zip(1000)),
    "zip says too little": (".zip", big_zip(10)),
    "zip bomb, stated": (".zip", big_zip(4_000_000_000)),
    "tar bomb, stated": (".tar", tarred(entry("x", b""), good=None)[:124] + b"77777777777\x00" + tarred(entry("x"), good=None)[136:]),
    "tar.gz bomb": (".tar.gz", gzip.compress(tarred(entry("zeros", bytes(300 << 20)), good=None), 6)),
    "sparse tar bomb": (".tar", None),
    "zip cut at the end": (".zip", ZIP[:-5]),
    "zip cut in the middle": (".zip", ZIP[: len(ZIP) // 2]),
    "zip cut at the beginning": (".zip", ZIP[40:]),
    "tar cut in a head": (".tar", TAR[:5700]),
    "tar cut in a file": (".tar", TAR[:2000]),
    "tar cut between files": (".tar", TAR[: 512 + 4096]),
    "tar with a damaged head": (".tar", TAR[:4608] + b"\xff" * 512 + TAR[5120:]),
    "tar.gz cut": (".tar.gz", GZ[: len(GZ) // 2]),
    "tar.gz with a flipped byte": (".tar.gz", GZ[:60] + bytes([GZ[60] ^ 0xFF]) + GZ[61:]),
    "tar.gz wrong CRC": (".tar.gz", GZ[:-8] + b"\x00" * 8),
    "tar.xz cut": (".tar.xz", lzma.compress(TAR)[:-40]),
    "tar.bz2 cut": (".tar.bz2", bz2.compress(TAR)[:-40]),
    "empty file as zip": (".zip", b""),
    "empty file as tar": (".tar", b""),
    "zip without a file": (".zip", b"PK\x05\x06" + bytes(18)),
    "tar without a file": (".tar", bytes(10240)),
    "zip of folders alone": (".zip", folders()),
    "web page as zip": (".zip", b"<!DOCTYPE html><html>Sign in</html>" * 50),
    "web page as tar": (".tar", b"\n<html>Sign in</html>" * 50),
    "rar as zip": (".zip", b"Rar!\x1a\x07\x01\x00" + bytes(2000)),
    "7z as tar": (".tar", b"7z\xbc\xaf\x27\x1c" + bytes(20000)),
    "tar as zip": (".zip", TAR),
    "zip as tar": (".tar", ZIP),
    "noise as tar": (".tar", bytes(range(256)) * 100),
}  # fmt: skip


def sparse_tar():
    """GNU's old sparse format: a terabyte in one block."""
    info, _ = entry("sparse", b"x" * 512)
    head = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    head[156:157] = b"S"
    head[386:398], head[398:410] = b"00000000000\x00", b"00000001000\x00"
    head[483:495] = b"\x80" + (1 << 40).to_bytes(11, "big")
    head[148:156] = b" " * 8
    head[148:156] = b"%06o\x00 " % sum(head[:512])
    return bytes(head) + b"x" * 512 + bytes(10240)


@pytest.mark.parametrize("name", CASES)
def test_one_line_and_nothing_outside(tmp_path, name):
    """Whatever is wrong: the archive is named; only whole good files may have been written, below the folder."""
    suffix, content = CASES[name]
    path, root = tmp_path / f"a{suffix}", tmp_path / "outer/root"
    path.write_bytes(sparse_tar() if content is None else content)
    line = refused(unpack, path, root)

    assert str(path) in line
    assert "\n" not in line
    assert line.isprintable()
    assert any(word in line for word in ("is not unpacked: ", "is damaged (", "do not fit"))
    files = {found.relative_to(tmp_path).as_posix(): found for found in tmp_path.rglob("*") if not found.is_dir()}
    files.pop(path.name)
    whole = {"outer/root/train/good.jpg": GOOD[1], "outer/root/a/b.jpg": b"b" * 5000}
    assert {name: found.read_bytes() for name, found in files.items()}.items() <= whole.items()


def test_at_least_36_kinds():
    """So many were tried by hand."""
    assert len(CASES) >= 36


@pytest.mark.parametrize(("suffix", "content"), [(".zip", ZIP), (".tar", TAR), (".tar.gz", GZ), (".tar.xz", lzma.compress(TAR))])
def test_good_archives(tmp_path, suffix, content):
    """The same helpers make archives that are unpacked whole, twice to the same end."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(content)
    for _ in range(2):
        unpack(path, tmp_path / "root")

    found = {at.relative_to(tmp_path / "root").as_posix(): at.read_bytes() for at in (tmp_path / "root").rglob("*.jpg")}
    assert found == {"train/good.jpg": GOOD[1], "a/b.jpg": b"b" * 5000}


def test_names_that_differ_in_case_and_odd_but_good_ones(tmp_path):
    """Written as they are on a disk that tells them apart; blanks, a leading ./ and other scripts are no reason."""
    path = tmp_path / "a.tar"
    path.write_bytes(tarred(entry("train/Good.jpg", b"other"), entry("./b c.jpg", b"b"), entry("\u4e2d\u6587.jpg", b"c")))
    unpack(path, tmp_path / "root")

    assert (tmp_path / "root/train/good.jpg").read_bytes() == GOOD[1]
    assert (tmp_path / "root/b c.jpg").read_bytes() == b"b"
    assert (tmp_path / "root/\u4e2d\u6587.jpg").read_bytes() == b"c"


def test_too_many_members(tmp_path, monkeypatch):
    """Refused by their number, however small."""
    monkeypatch.setattr(archives, "_MOST_MEMBERS", 3)
    for suffix, content in (
        (".zip", zipped(*((f"{k}", b"") for k in range(9)))),
        (".tar", tarred(*(entry(f"{k}") for k in range(9)))),
    ):
        (tmp_path / f"a{suffix}").write_bytes(content)

        assert "would become 4 files" in refused(unpack, tmp_path / f"a{suffix}", tmp_path / "root")


def test_a_file_in_place_of_a_folder_on_the_disk(tmp_path):
    """Said with the path; the file stays."""
    (tmp_path / "a.zip").write_bytes(ZIP)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/train").write_bytes(b"the user's own")
    line = refused(unpack, tmp_path / "a.zip", tmp_path / "root")

    assert "cannot unpack" in line
    assert str(tmp_path / "root/train") in line
    assert (tmp_path / "root/train").read_bytes() == b"the user's own"


def test_an_archive_that_is_not_there(tmp_path):
    """One line, too."""
    assert str(tmp_path / "a.zip") in refused(unpack, tmp_path / "a.zip", tmp_path / "root")
