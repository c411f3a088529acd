"""Downloading and unpacking published data sets: from a server of this machine, into the data set's folder and nowhere else."""

import hashlib
import io
import shutil
import tarfile
import threading
import zipfile
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from benchmarks.dataset import Archive, datasets
from benchmarks.published_data import check_published
from pipelines.engine import archives
from pipelines.engine.archives import complete, unpack
from tests import trees
from tests.trees import refused, small_catalogue


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        self.server.asked.append(self.path)


@pytest.fixture
def published(tmp_path, monkeypatch):
    """COCO and VOC, tiny, as archives on a server; the catalogue names them. Yields the list of what was asked for."""
    small_catalogue(monkeypatch)
    source, files = tmp_path / "source", tmp_path / "files"
    trees.coco(source)
    trees.voc(source)
    (source / "annotations/captions_val2017.json").write_text("{}")
    files.mkdir()
    for name in ("train2017", "val2017", "annotations"):
        shutil.make_archive(str(files / name), "zip", source, name)
    for year in (2007, 2012):
        shutil.make_archive(str(files / f"VOC{year}"), "tar", source, f"VOCdevkit/VOC{year}")
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(files)))
    server.asked = []
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def archive(name, *gives, wanted=""):
        content = (files / name).read_bytes()
        url = f"http://127.0.0.1:{server.server_port}/{name}"
        digest = (
            {"md5": hashlib.md5(content, usedforsecurity=False).hexdigest()}
            if name.endswith("tar")
            else {"sha256": hashlib.sha256(content).hexdigest()}
        )
        return Archive(url, len(content), gives, len(content), wanted=wanted, **digest)

    coco = (
        archive("train2017.zip", "train2017"),
        archive("val2017.zip", "val2017"),
        archive("annotations.zip", "annotations/", wanted="annotations/instances_"),
    )
    voc = tuple(archive(f"VOC{year}.tar", f"VOCdevkit/VOC{year}") for year in (2007, 2012))
    monkeypatch.setitem(datasets(), "coco", replace(datasets()["coco"], archives=coco))
    monkeypatch.setitem(datasets(), "voc", replace(datasets()["voc"], archives=voc))
    yield server.asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("name", ["coco", "voc"])
def test_an_empty_folder_becomes_the_data_set(published, tmp_path, name):
    """All archives are fetched once and unpacked; what is not needed of one is left in it."""
    root = tmp_path / "root"
    complete(name, root)

    assert sum(check_published(name, root).num_images.values()) == {"coco": 5, "voc": 8}[name]
    assert len(published) == {"coco": 3, "voc": 2}[name]
    assert not (root / "annotations/captions_val2017.json").exists()
    assert not list(root.rglob("*.unpacking"))
    complete(name, root)
    assert len(published) == {"coco": 3, "voc": 2}[name]


def test_only_what_is_missing_is_fetched(published, tmp_path):
    """A tree without its val images asks for val2017.zip alone; what is there already stays as it is."""
    root = trees.coco(tmp_path / "root")
    shutil.rmtree(root / "val2017")
    (root / "train2017/000000000000.jpg").write_bytes(b"the user's own")
    complete("coco", root)

    assert published == ["/val2017.zip"]
    assert (root / "train2017/000000000000.jpg").read_bytes() == b"the user's own"
    assert len(list((root / "val2017").iterdir())) == 2


def test_an_interrupted_unpacking_goes_on(published, tmp_path, monkeypatch):
    """Without another download, and without writing again what is there."""
    root = tmp_path / "root"
    real, written = shutil.copyfileobj, []

    def stop(source, target, *rest):
        written.append(target.name)
        if len(written) == 2:
            target.write(b"half")
            raise KeyboardInterrupt
        real(source, target, *rest)

    monkeypatch.setattr(archives, "shutil", SimpleNamespace(copyfileobj=stop))  # not the server's
    with pytest.raises(KeyboardInterrupt):
        complete("coco", root)
    before = len(published)
    complete("coco", root)

    assert check_published("coco", root).num_images == {"train": 3, "val": 2}
    assert len(published) == before == 3
    assert len(set(written)) == 7
    assert len(written) == 8


def test_a_full_disk(published, tmp_path, monkeypatch):
    """Said before anything is fetched, with how much is missing: archives and what they unpack to."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=600 * 2**20))
    huge = tuple(replace(archive, unpacked=2 * 10**9) for archive in datasets()["coco"].archives)
    monkeypatch.setitem(datasets(), "coco", replace(datasets()["coco"], archives=huge))
    line = refused(complete, "coco", tmp_path / "root")

    assert "6000 MB do not fit" in line
    assert not published


def test_what_may_not_be_downloaded_is_left_alone(published, tmp_path):
    """Cityscapes has no archives in the catalogue."""
    complete("cityscapes", tmp_path / "root")

    assert not published
    assert not (tmp_path / "root").exists()


def _zip(path, name, *, link=False):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train2017/good.jpg", b"good")
        entry = zipfile.ZipInfo(name)
        entry.external_attr = (0o120777 if link else 0o100644) << 16
        archive.writestr(entry, b"/etc")
    return path


def _tar(path, name, kind=tarfile.REGTYPE):
    with tarfile.open(path, "w") as archive:
        for entry, content in ((tarfile.TarInfo("train2017/good.jpg"), b"good"), (tarfile.TarInfo(name), b"")):
            entry.size = len(content)
            if not content:
                entry.type, entry.linkname = kind, "/etc"
            archive.addfile(entry, io.BytesIO(content))
    return path


@pytest.mark.parametrize("name", ["../evil", "train2017/../../evil", "/evil", "..\\evil", "C:/evil"])
@pytest.mark.parametrize("make", [_zip, _tar])
def test_members_that_would_leave_the_folder(tmp_path, make, name):
    """Refused by name, and nothing is unpacked."""
    path = make(tmp_path / ("a.zip" if make is _zip else "a.tar"), name)
    line = refused(unpack, path, tmp_path / "root/inner")

    assert f"{path} is not unpacked: its member {name!r} would leave the folder" in line
    assert sorted(p.name for p in tmp_path.rglob("*")) == [path.name]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, "zip"])
def test_links_and_devices(tmp_path, kind):
    """Only regular files are taken."""
    path = _zip(tmp_path / "a.zip", "link", link=True) if kind == "zip" else _tar(tmp_path / "a.tar", "link", kind)

    assert "'link'" in refused(unpack, path, tmp_path / "root")
    assert not (tmp_path / "root").exists()


@pytest.mark.parametrize("ending", ["zip", "tar"])
def test_a_damaged_archive(tmp_path, ending):
    """Named, with what to do."""
    path = tmp_path / f"a.{ending}"
    path.write_bytes(b"no archive" * 100)

    assert f"{path} is damaged" in refused(unpack, path, tmp_path / "root")
