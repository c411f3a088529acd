"""dvc.lock after interruptions, and its repair."""

import errno
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from pipelines import errors
from pipelines.runner import lockfile
from pipelines.runner.record import Record
from tests.conftest import ROOT
from tests.small_grid import init_dvc, wait_for

PYTHON = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
PYTHON.pop("SHELL", None)
PART = Path("dvc.lock.part")


def records(num):
    """Records of stages that are in dvc.lock alone, 25 lines each."""
    deps = [{"path": f"folder/file_{n}", "hash": "md5", "md5": "0123456789abcdef" * 2, "size": n} for n in range(5)]
    return {f"other@{n}": {"cmd": f"true {n}", "deps": deps, "outs": [{**deps[0], "path": f"out_{n}"}]} for n in range(num)}


def text_of(stages):
    """A dvc.lock as DVC writes it."""
    content = {"schema": "2.0", "stages": stages}
    return yaml.dump(content, sort_keys=False, Dumper=type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True}))


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """An empty DVC project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    init_dvc(tmp_path)
    return tmp_path


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """A dvc.lock of eight stages that `make repro` has seen; its text."""
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(text_of(records(8)))
    lockfile.repair()
    return text_of(records(8))


def half(text):
    """Up to the middle of a digest."""
    return text[: text.index("0123456789abcdef", len(text) // 2) + 9]


def half_a_record(text):
    """Up to the end of a line within the record of the fourth stage, which YAML and DVC's schema accept."""
    start = text.index("  other@3:")
    return text[: text.index("\n", text.index("file_2", start)) + 1]


@pytest.mark.parametrize(
    ("cut", "words", "num_lost"),
    [
        (lambda _: "", "is empty", 8),
        (half, "ends in the middle of a line", 4),
        (half_a_record, "ends in the middle of other@3", 5),
        (lambda _: "schema: '2.0'\nstages:\n", "has no schema or no stages", 8),
        (lambda _: "{\n", "is not YAML", 8),
        (lambda text: "\0" * len(text), "ends in the middle of a line", 8),
    ],
)
def test_a_cut_file_is_restored(kept, capsys, cut, words, num_lost):
    """By one line, from the copy, which stays; what was found is kept, too."""
    found = cut(kept)
    Path("dvc.lock").write_text(found)
    PART.write_text("of a killed process")
    lockfile.keep()
    lockfile.repair()
    (line,) = capsys.readouterr().out.splitlines()

    assert re.fullmatch(rf"dvc\.lock {words}.* restored .*\b8 stages.*\b{num_lost} of them.*work/damaged\.lock", line), line
    assert Path("dvc.lock").read_text() == lockfile.KEPT.read_text() == kept
    assert lockfile.DAMAGED.read_text() == found
    assert not PART.exists()


def changed(text):
    """Another digest in the last stage."""
    return text[::-1].replace("0", "f", 1)[::-1]


@pytest.mark.parametrize(
    "other",
    [
        lambda text: text,
        lambda _: text_of(records(5)),
        lambda text: changed(text).replace("true 1", "false"),
        lambda _: changed(text_of(records(3))),
        lambda text: text.replace(
            "    - path: folder/file_4\n      hash: md5\n      md5: " + "0123456789abcdef" * 2 + "\n      size: 4\n", ""
        ),
        lambda _: "schema: '2.0'\nstages: {}\n",
        lambda _: None,
    ],
    ids=["itself", "fewer stages", "other content", "fewer, other content", "fewer lines", "no stages", "no file"],
)
def test_a_whole_file_is_left_alone(kept, capsys, other):
    """As from `git checkout`, silently, and it is what is kept from then on."""
    text = other(kept)
    Path("dvc.lock").unlink() if text is None else Path("dvc.lock").write_text(text)
    lockfile.repair()

    assert capsys.readouterr().out == ""
    assert (Path("dvc.lock").read_text() if text else None) == text
    assert lockfile.KEPT.read_text() == (text if text and "other" in text else kept)


@pytest.mark.parametrize("copy", [None, "", "half"])
def test_no_copy_is_one_line_with_the_remedy(kept, capsys, copy):
    """Exit code 2; a copy that is cut itself is none."""
    lockfile.KEPT.unlink() if copy is None else lockfile.KEPT.write_text(half(kept) if copy else "")
    Path("dvc.lock").write_text(half_a_record(kept)[:-1])
    with pytest.raises(SystemExit, match="2"):
        errors.run(lockfile.repair)

    assert re.fullmatch(r"error: dvc\.lock .*work/kept\.lock .*git checkout dvc\.lock.*\n", capsys.readouterr().err)
    assert Path("dvc.lock").read_text() == half_a_record(kept)[:-1]


def test_a_link_stays_a_link_and_the_mode_is_kept(kept):
    """The file that it leads to is replaced, by a writer and by the repair."""
    Path("elsewhere").mkdir()
    shutil.move("dvc.lock", "elsewhere/lock")
    Path("dvc.lock").symlink_to("elsewhere/lock")
    Path("elsewhere/lock").chmod(0o640)
    lockfile.replace("dvc.lock", lambda stream: stream.write(half(kept)))
    assert Path("elsewhere/lock").read_text() == half(kept)
    lockfile.repair()

    assert os.readlink("dvc.lock") == "elsewhere/lock"
    assert Path("elsewhere/lock").read_text() == kept
    assert stat.S_IMODE(os.stat("elsewhere/lock").st_mode) == 0o640
    assert os.listdir("elsewhere") == ["lock"]


@pytest.mark.parametrize("writer", ["repair", "keep"])
def test_a_full_disk_leaves_the_old_file_whole(kept, monkeypatch, capsys, writer):
    """One line, and nothing of the new file is left; what the coordinator writes is in test_runner."""

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = half(kept) if writer == "repair" else changed(kept)
    Path("dvc.lock").write_text(old)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit, match="2"):
        errors.run({"repair": lockfile.repair, "keep": lockfile.keep}[writer])

    assert re.fullmatch("error: .*No space left on device.*\n", capsys.readouterr().err)
    assert Path("dvc.lock").read_text() == old
    assert lockfile.KEPT.read_text() == kept
    assert not list(Path().rglob("*.part"))


def test_a_killed_plain_dvc_is_made_up_for(bare, capsys):
    """Its stage keeps dvc.lock as it is before DVC's writing; `make repro` goes on from there, past a cut rwlock, too."""
    code = "from pipelines import errors; errors.run(lambda: None)"
    stages = {name: {"cmd": f'python -c "{code}"', "deps": [f"{name}.txt"]} for name in "ab"}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in "ab":
        Path(f"{name}.txt").write_text(name)
    subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True, env=PYTHON)
    after_both = Path("dvc.lock").read_text()
    after_a = lockfile.KEPT.read_text()
    Path("dvc.lock").write_text(after_both[: after_both.index("a.txt")])
    Path(".dvc/tmp/rwlock").write_text('{"write": {')
    record = Record()

    assert yaml.safe_load(after_a)["stages"].keys() == {"a"}
    assert after_both.startswith(after_a)
    assert record.waiting() == {"b"}
    assert "restored" in capsys.readouterr().out


def in_use(**entries):
    """Write DVC's list of paths in use."""
    Path(".dvc/tmp").mkdir(exist_ok=True)
    Path(".dvc/tmp/rwlock").write_text(json.dumps(entries))


def test_a_number_that_lives_again_blocks_nothing(bare, capsys):
    """Entries of processes that have ended, whose numbers others have now, are taken out; a dvc that is at work keeps its own."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": {"cmd": "echo $PPID > pid && sleep 60", "outs": ["one"]}}}))
    with subprocess.Popen(["sleep", "60"]) as other, subprocess.Popen([sys.executable, "-m", "dvc", "repro"], env=PYTHON) as dvc:
        wait_for(lambda: Path("pid").exists() and Path("pid").read_text(), "dvc works")
        mine = json.loads(Path(".dvc/tmp/rwlock").read_text())
        again = {"pid": other.pid, "cmd": "/bin/dvc repro"}
        in_use(
            write=mine["write"] | {"/x/two": again, "/x/three": {"pid": 2**22 + 1, "cmd": "dvc repro"}}, read={"/x/four": [again]}
        )
        lockfile.free()
        found = json.loads(Path(".dvc/tmp/rwlock").read_text())
        other.kill()
        dvc.kill()

    assert [one["pid"] for one in mine["write"].values()] == [dvc.pid]
    assert found == {"write": mine["write"], "read": {}}
    assert re.fullmatch(r"\.dvc/tmp/rwlock names processes that have ended.*\n", capsys.readouterr().out)


@pytest.mark.parametrize("text", ["", '{"write": {"/x', "[]", '{"write": {"/x/one": 5}}', "\0" * 40])
def test_a_cut_list_of_paths_in_use_is_removed(bare, capsys, text):
    """By one line, whenever DVC's lock is taken."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": {"cmd": "true"}}}))
    record = Record()
    Path(".dvc/tmp/rwlock").write_text(text)

    assert record.waiting() == {"a"}
    assert re.fullmatch(r"\.dvc/tmp/rwlock is cut off.*\n", capsys.readouterr().out)


@pytest.mark.slow
def test_the_holder_of_dvcs_lock_is_named(bare):
    """Though it is suspended: process, host and what to do, in one line, after a bounded time."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"a": {"cmd": "true"}}}))
    code = "import time\nfrom dvc.repo import Repo\nwith Repo().lock:\n    print(1, flush=True)\n    time.sleep(60)\n"
    with subprocess.Popen([sys.executable, "-c", code], env=PYTHON, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        other.send_signal(signal.SIGSTOP)
        with pytest.raises(
            ValueError, match=rf"another dvc .*process {other.pid} on \S+, which is suspended: kill -CONT {other.pid} .*"
        ):
            Record()
        other.kill()
