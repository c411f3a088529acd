"""Ends of processes around a run: with what started them, without marking anything as failed, and a short campaign of accidents."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines import circumstances
from pipelines.circumstances import CircumstanceError, is_by_signal, is_circumstance
from pipelines.commands.status import _state
from pipelines.engine.workdir import noting_failure
from pipelines.runner import locks, unit
from pipelines.runner.unit import Unit
from tests.conftest import ROOT
from tests.small_grid import wait_for, without_git_warning
from tools import kill_campaign
from tools.accident_places import FILES

STAGES = sorted(path.stem for path in (ROOT / "pipelines/stages").glob("*.py") if path.stem != "__init__")
# As DVC: starts a stage and waits for it.
STARTER = "import subprocess, sys; subprocess.run([sys.executable, '-m', 'pipelines.stages.' + sys.argv[1]])"
# In place of what a stage imports first of all packages.
SLOW = "import os, time\nfrom pathlib import Path\nPath('pid.new').write_text(str(os.getpid()))\nos.rename('pid.new', 'pid')\ntime.sleep(60)\n"


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_ends_with_its_starter_while_it_imports(tmp_path, stage):
    """DVC is killed before anything slow is imported."""
    for name in ("pydantic", "mmengine", "torch", "yaml", "numpy"):
        (tmp_path / f"{name}.py").write_text(SLOW)
    environment = {**os.environ, "DVC_STAGE": stage, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    environment.pop("LOCAL_RANK", None)
    with subprocess.Popen([sys.executable, "-c", STARTER, stage], cwd=tmp_path, env=environment) as starter:
        wait_for((tmp_path / "pid").exists, "it imports")
        starter.kill()
    pid = int((tmp_path / "pid").read_text())
    wait_for(lambda: locks.start_of(pid) is None, "it ends", within_s=5)


def test_the_start_of_a_process_is_no_time_of_day(monkeypatch):
    """Ticks since this boot: the kernel's own count, whatever the clock says; another process has another."""
    first = locks.start_of(os.getpid())
    monkeypatch.setattr(psutil.Process, "create_time", lambda _: 5.0)
    monkeypatch.setattr(time, "time", lambda: 5.0)
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    ticks = (
        Path("/proc/self/stat").read_text().rpartition(")")[2].split()[22 - 3]
    )  # field 22 of proc(5), the third is the first here
    with subprocess.Popen(["sleep", "60"]) as other:
        second = locks.start_of(other.pid)
        other.kill()
        other.wait()

    assert first == locks.start_of(os.getpid()) == f"boot {boot}, tick {ticks}"
    assert second.startswith(f"boot {boot}, tick ")
    assert second != first
    assert locks.start_of(other.pid) is None


HOLDER = "import sys, time\nfrom pathlib import Path\nfrom pipelines.runner import locks\nwith locks.held(Path(sys.argv[1])):\n    print(1, flush=True)\n    time.sleep(60)\n"


def test_a_suspended_holder_stops_nobody_for_ever(tmp_path):
    """After a bounded time one line names process, host and what to do."""
    path = tmp_path / "lock"
    with subprocess.Popen([sys.executable, "-c", HOLDER, path], cwd=ROOT, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        holder.send_signal(signal.SIGSTOP)
        wait_for(lambda: psutil.Process(holder.pid).status() == psutil.STATUS_STOPPED, "it is suspended")
        with pytest.raises(locks.BusyError) as busy, locks.held(path, patience_s=0.3):
            pass
        holder.kill()

    assert str(busy.value) == (
        f"process {holder.pid} on {os.uname().nodename}, which is suspended: kill -CONT {holder.pid} lets it go on, "
        f"kill -KILL {holder.pid} ends it"
    )
    with locks.held(path):
        pass


def test_a_lock_holds_on_a_full_disk(tmp_path, monkeypatch):
    """Though its holder's name cannot be written."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with locks.held(tmp_path / "lock"), (tmp_path / "lock").open() as other, pytest.raises(BlockingIOError):
        fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.EROFS, "read-only"), True),
        (OSError(errno.EDQUOT, "quota"), True),
        (FileNotFoundError(errno.ENOENT, "missing"), False),
        (CircumstanceError("held"), True),
        (locks.BusyError("process 4711 on n1"), True),
        (KeyboardInterrupt(), True),
        (RuntimeError("DataLoader worker (pid(s) 12) is killed by signal: Killed."), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("params.yaml: the class 'killed by signal' is unknown"), False),
        (ZeroDivisionError("division by zero"), False),
    ],
)
def test_a_circumstance_is_not_noted_as_a_failure(tmp_path, monkeypatch, error, expected):
    """For the report; neither is what it causes."""
    monkeypatch.setattr(circumstances, "is_full", lambda: False)

    def fail():
        with noting_failure(tmp_path):
            try:
                raise error
            except Exception as cause:
                raise ValueError("in our words") from cause

    with pytest.raises(BaseException, match=r".*"):
        fail()

    assert is_circumstance(error) == expected
    assert (tmp_path / "failed.txt").exists() == (not expected)


@pytest.mark.parametrize(
    ("code", "expected"), [(-9, True), (-15, True), (130, True), (143, True), (-11, False), (2, False), (0, False)]
)
def test_an_end_by_a_signal_is_known_by_its_code(code, expected):
    """Ends of a process and of a shell are told apart; a fault of its own (SIGSEGV) is none."""
    assert is_by_signal(code) == expected


UNIT = "import sys\nfrom pipelines.runner import unit\nunit.run(sys.argv[1])\n"


@pytest.mark.parametrize(
    ("command", "note"),
    [
        ("kill -TERM $$", "stopped.txt"),
        ("exit 130", "stopped.txt"),
        ("exit 3", "failed.txt"),
        ("exec python -m full", "stopped.txt"),
        ("exec python -m wrong", "failed.txt"),
    ],
)
def test_a_unit_notes_what_stopped_it_apart_from_failures(tmp_path, monkeypatch, command, note):
    """And status says so: by a signal, by a full disk in a stage of its own process."""
    monkeypatch.chdir(tmp_path)
    raised = {"full": "OSError(28, 'No space left on device')", "wrong": "ValueError('no such key')"}
    for name, error in raised.items():
        text = f"from pipelines import errors\ndef main():\n    raise {error}\nerrors.run(main)\n"
        Path(f"{name}.py").write_text(text)
    one = Unit("a/none/seed0", {"distill@a/none/seed0": command})
    one.write()
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    subprocess.run([sys.executable, "-c", UNIT, one.folder], env=environment, capture_output=True, check=False)
    monkeypatch.setattr(unit, "UNITS", tmp_path / "work/units")

    assert {path.name for path in one.folder.glob("*.txt")} == {note}
    assert (one.failure() is None, one.interruption() is None) == (note == "stopped.txt", note == "failed.txt")
    assert _state(one.folder)[0] == note.removesuffix(".txt")


@pytest.mark.parametrize("name", ["unit.json", "done.json"])
@pytest.mark.parametrize("text", ["", '{"key": ', "[]", "\0\0"])
def test_a_damaged_note_of_a_unit_is_none(tmp_path, monkeypatch, name, text):
    """As a power cut leaves it: the unit runs again."""
    monkeypatch.chdir(tmp_path)
    one = Unit("a/none/seed0", {"distill@a/none/seed0": "true"})
    one.write()
    one.note_done(list(one.commands))
    assert one.is_written()
    assert one.done()
    (one.folder / name).write_text(text)

    assert not (one.is_written() and one.done())


@pytest.mark.slow
def test_a_short_campaign(tmp_path, capsys, monkeypatch):
    """Accidents of several places on a grid of shell commands end in the undisturbed figures; the table counts them."""
    monkeypatch.setattr(
        sys, "argv",
        ["kill_campaign", "--toy", "--kills", "6", "--seed", "3", "--json", str(tmp_path / "out.json"), "--place", "of the coordinator",
         "of a unit", "Ctrl-C twice", "SIGTERM", ": dvc.lock", ": rwlock"],
    )  # fmt: skip
    with pytest.raises(SystemExit) as ended:
        kill_campaign.main()
    lines = capsys.readouterr().out.splitlines()
    outcomes = json.loads((tmp_path / "out.json").read_text())

    assert ended.value.code == 0, lines
    assert sum(outcome != "skipped" for _, outcome, *_ in outcomes) == 6
    assert {outcome for _, outcome, *_ in outcomes} <= {"recovered", "said", "skipped"}
    assert lines[-1].split("|")[1:3] == [" all ", " 6 "]


def test_the_campaign_sees_other_figures_and_half_files(tmp_path):
    """A changed digit of a record and a cut archive are found."""
    folder = tmp_path / "runs/smoke/pair/none/seed0"
    folder.mkdir(parents=True)
    record = {"curve": [{"iteration": 1, "loss": 0.5}], "hparams": {}, "weights_sha256": "0", "status": "done", "cost": 1}
    (folder / "run.json").write_text(json.dumps(record))
    project = kill_campaign.Project(tmp_path, [], [])
    first = project.figures()
    (folder / "run.json").write_text(json.dumps(record | {"cost": 2}))
    same = project.figures()
    (folder / "run.json").write_text(json.dumps(record | {"curve": [{"iteration": 1, "loss": 0.5000001}]}))

    assert first == same != project.figures()
    assert kill_campaign.half_files(tmp_path) == []
    (folder / "student.pth").write_bytes(b"PK half")
    (folder / "metrics.json").write_text('{"score": 1')
    assert len(kill_campaign.half_files(tmp_path)) == 2


def test_every_place_of_the_campaign_has_a_name_of_its_own():
    """Processes, disks and kinds of files."""
    found = kill_campaign.all_places()

    assert len(found) == len(set(found)) >= 14 + 8 + len(FILES)


TWICE = """
import os, signal, sys, time
from pipelines import errors
def main():
    try:
        print("begun", flush=True)
        time.sleep(60)
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)
        time.sleep(0.2)
        print("closed", flush=True)
signal.signal(signal.SIGINT, signal.default_int_handler)
errors.run(main)
"""


def test_a_second_ctrl_c_interrupts_no_end():
    """What ends in order ends once, by one line and without a traceback."""
    with subprocess.Popen(
        [sys.executable, "-c", TWICE], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()

    assert (process.returncode, out) == (130, "closed\n")
    assert without_git_warning(err) == "stopped; the next dvc repro goes on from the last checkpoint\n"


@pytest.mark.parametrize("after_s", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_ctrl_c_while_the_command_imports_is_quiet(after_s):
    """However early, from the first line of ours on."""
    code = "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\nprint(1, flush=True)\nimport runpy\nsys.argv = ['kd', '--help']\nrunpy.run_module('pipelines', run_name='__main__')\n"
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        time.sleep(0.08 + after_s)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()

    assert "Traceback" not in err
