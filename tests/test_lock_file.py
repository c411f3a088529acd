"""dvc.lock after interruptions, and its repair."""

import collections
import contextlib
import errno
import hashlib
import os
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines import cli, job, lockfile, repro
from tests.conftest import ROOT

PYTHON = {**os.environ, "PYTHONPATH": str(ROOT), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
PYTHON.pop("SHELL", None)
PART = Path("dvc.lock.part")

# Forks `python -m pipelines.job work` from a process that has DVC imported, in a process group of its own.  A line of input
# starts one; its output is the pid, then the exit code.  `next` begins as make repro does.
JOBS = """
import importlib, os, runpy, signal, sys
for module in (
    "dvc._debug", "dvc.cli.parser", "dvc.repo.artifacts", "dvc.repo.datasets", "dvc.repo.open_repo", "dvc.repo.reproduce",
    "dvc.rwlock", "dvc.schema", "dvc.stage.cache", "dvc.stage.run", "dvc_render", "networkx", "scmrepo.git", "scmrepo.noscm",
):
    importlib.import_module(module)
from pipelines import cli, lifeline, lockfile, warm
for line in sys.stdin:
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1), os.dup2(log, 2)
        code = 1
        try:
            if line == "next\\n":
                lockfile.repair()
            sys.argv = ["job", "work"]
            runpy.run_module("pipelines.job", run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code
        finally:
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
    try:
        os.setpgid(pid, pid)
    except OSError:
        pass
    print(pid, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""

# `make repro` without its grid and without MMLab.
RUNNER = """
import contextlib
from pipelines import cli, repro
class Server:
    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None
    connected = lambda self: contextlib.nullcontext(({}, ()))
repro.warm.Server = Server
repro.load_grid = repro.check_all = repro.idle_stages = lambda *_: set()
cli.run(repro.main)
"""


def records(num):
    """Records of stages that are in dvc.lock alone, 25 lines each."""
    deps = [{"path": f"folder/file_{n}", "hash": "md5", "md5": "0123456789abcdef" * 2, "size": n} for n in range(5)]
    return {f"other@{n}": {"cmd": f"true {n}", "deps": deps, "outs": [{**deps[0], "path": f"out_{n}"}]} for n in range(num)}


def text_of(stages):
    """A dvc.lock as DVC writes it."""
    content = {"schema": "2.0", "stages": stages}
    return yaml.dump(content, sort_keys=False, Dumper=type("Plain", (yaml.SafeDumper,), {"ignore_aliases": lambda *_: True}))


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """An empty DVC project, which is the working directory."""
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--no-scm", "-q"], check=True)
    return tmp_path


@pytest.fixture
def jobs(scratch):
    """Start stage `work`, which copies a file; its record is in the middle of 2,000 lines."""
    command = "touch nearly && sleep 0.05 && cp word out"
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"work": {"cmd": command, "deps": ["word"], "outs": ["out"]}}}))
    before, after = (dict(list(records(70).items())[part]) for part in (slice(35), slice(35, 70)))
    Path("dvc.lock").write_text(text_of({**before, "work": {"cmd": command}, **after}))
    Path("word").write_text("first\n")
    with subprocess.Popen(
        [sys.executable, "-c", JOBS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=PYTHON
    ) as process:

        def begin(how="work"):
            process.stdin.write(f"{how}\n")
            process.stdin.flush()
            return int(process.stdout.readline())

        def end():
            return int(process.stdout.readline())

        yield begin, end
        process.stdin.close()


def digest(word):
    """As DVC records it."""
    return hashlib.md5(word.encode(), usedforsecurity=False).hexdigest().encode()


def test_fifty_interruptions_around_the_end_of_a_stage(jobs):
    """The record is there or not, all others are; the next run makes up for it.

    The moments come later after an interruption without a record and sooner after one with it: on a slow machine, too,
    they are before, in and after the writing.
    """
    begin, end = jobs
    rng = random.Random(0)  # noqa: S311
    begin()
    assert end() == 0, Path("log").read_text()
    words, reach_s, counts = ["first\n"], 0.3, collections.Counter()
    for number in range(50):
        before = Path("dvc.lock").read_bytes()
        words.append(f"{number:05}\n")
        Path("word").write_text(words[-1])
        Path("nearly").unlink(missing_ok=True)
        assert before.count(digest(words[-2])) == 2
        expected = before.replace(digest(words[-2]), digest(words[-1]))
        pid = begin()
        while not Path("nearly").exists() and psutil.pid_exists(pid):
            time.sleep(0.001)
        time.sleep(rng.triangular(0, reach_s, reach_s))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[number % 3])
        end()
        found = Path("dvc.lock").read_bytes()
        lines = f"{len(found.splitlines())} of {len(before.splitlines())} lines left by interruption {number}"
        assert found in {before, expected}, lines
        counts["recorded" if found == expected else "being written" if PART.exists() else "before"] += 1
        reach_s *= 1 / 1.2 if found == expected else 1.2

        begin("next")
        assert end() == 0, Path("log").read_text()
        assert "restored" not in Path("log").read_text()
        assert Path("dvc.lock").read_bytes() == expected
        assert not PART.exists()

    assert min(counts["before"], counts["recorded"]) >= 3, counts
    assert counts["being written"], counts


def is_gone(process, within_s=20):
    """Return True for a process that ends in time; the machine's first process need not have waited for it."""
    deadline = time.monotonic() + within_s
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_runner_ends_its_jobs(scratch, number):
    """Both stages are gone, one line says so, and DVC's locks are free."""
    command = "echo $$ > {0}.new && mv {0}.new {0}.pid && exec sleep 600"
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {name: {"cmd": command.format(name)} for name in "ab"}}))
    files = [Path("a.pid"), Path("b.pid")]
    with subprocess.Popen(
        [sys.executable, "-c", RUNNER, "--jobs", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=PYTHON
    ) as runner:
        deadline = time.monotonic() + 120
        while not all(file.exists() for file in files) and time.monotonic() < deadline:
            time.sleep(0.05)
        runner.send_signal(number)
        out, err = runner.communicate(timeout=60)

    assert (runner.returncode, err) == (130, "stopped; the next dvc repro goes on from the last checkpoint\n")
    assert len(out.splitlines()) == 1, out
    assert all(is_gone(int(file.read_text())) for file in files)
    assert list(repro.make_plan().before) == ["a", "b"]


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

    assert re.fullmatch(
        rf"dvc\.lock {words}, as an interrupted write leaves it; restored from the copy of [ :\w]+: 8 stages' records, "
        rf"{num_lost} of them lost otherwise; the cut file is work/damaged\.lock",
        line,
    )
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
        cli.run(lockfile.repair)

    assert capsys.readouterr().err == (
        "error: dvc.lock ends in the middle of a line, as an interrupted write leaves it, and work/kept.lock has no copy of it; "
        "take back the committed one (git checkout dvc.lock), or remove it where none was committed\n"
    )
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


@pytest.mark.parametrize("writer", ["DVC", "repair", "keep"])
def test_a_full_disk_leaves_the_old_file_whole(kept, monkeypatch, capsys, writer):
    """One line, and nothing of the new file is left."""
    from dvc.utils.serialize import _common, _yaml  # noqa: PLC0415

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def change():
        with _yaml.modify_yaml("dvc.lock") as lock:
            lock["stages"]["new"] = {"cmd": "true"}

    for module in (_common, _yaml):
        monkeypatch.setattr(module, "_dump_data", _common._dump_data)
    job.write_lock_whole()
    old = half(kept) if writer == "repair" else changed(kept)
    Path("dvc.lock").write_text(old)
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(SystemExit, match="2"):
        cli.run({"DVC": change, "repair": lockfile.repair, "keep": lockfile.keep}[writer])

    assert capsys.readouterr().err == "error: [Errno 28] No space left on device\n"
    assert Path("dvc.lock").read_text() == old
    assert lockfile.KEPT.read_text() == kept
    assert not list(Path().rglob("*.part"))


def test_a_killed_plain_dvc_is_made_up_for(scratch, capsys):
    """Its stage keeps dvc.lock as it is before DVC's writing; `make repro` goes on from there, past a cut rwlock, too."""
    code = "from pipelines import cli; cli.run(lambda: None)"
    stages = {name: {"cmd": f'python -c "{code}"', "deps": [f"{name}.txt"]} for name in "ab"}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": stages}))
    for name in "ab":
        Path(f"{name}.txt").write_text(name)
    subprocess.run([sys.executable, "-m", "dvc", "repro"], check=True, env=PYTHON)
    after_both = Path("dvc.lock").read_text()
    after_a = lockfile.KEPT.read_text()
    Path("dvc.lock").write_text(after_both[: after_both.index("a.txt")])
    Path(".dvc/tmp/rwlock").write_text('{"write": {')
    plan = repro.make_plan()

    assert yaml.safe_load(after_a)["stages"].keys() == {"a"}
    assert after_both.startswith(after_a)
    assert list(plan.before) == ["b"]
    assert "restored from the copy" in capsys.readouterr().out
