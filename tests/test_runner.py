"""The coordinator of ``make repro`` on projects of small shell commands: what it runs, records, and leaves after any end."""

import contextlib
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import yaml

from pipelines.runner import lockfile
from pipelines.runner.unit import Unit
from tests.small_grid import CELL, KEYS, ONCE, PYTHON, RUNNER, dvc, ran, repro, stages, started, wait_for, without_git_warning

pytestmark = pytest.mark.slow


def test_what_it_records_is_what_dvc_writes(scratch, tmp_path_factory):
    """Byte for byte, directories, parameters and outputs without cache among them; and nothing is stale then."""
    other = tmp_path_factory.mktemp("other") / "project"
    shutil.copytree(scratch, other)
    done = repro("--jobs", "3")
    subprocess.run([sys.executable, "-m", "dvc", "repro", "-q"], cwd=other, env=PYTHON, check=True)

    assert done.returncode == 0, done.stderr
    assert Path("dvc.lock").read_bytes() == (other / "dvc.lock").read_bytes()
    assert yaml.safe_load(Path("dvc.lock").read_text())["stages"].keys() == {
        "check", "report", *(f"{stage}@{key}" for stage in ("distill", "evaluate") for key in KEYS),
    }  # fmt: skip
    assert json.loads(dvc("status", "--json")) == {}
    assert ran() == ONCE
    assert "nothing to do: all 18 stages are up to date" in repro().stdout


def test_only_what_is_stale_runs(scratch):
    """A cell whose settings changed, and one whose evaluation alone was lost."""
    assert repro().returncode == 0
    Path("settings", KEYS[3]).write_text("other")
    Path("runs", KEYS[5], "metrics.json").unlink()
    assert repro().returncode == 0

    assert ran() == ONCE | {KEYS[3]: {"distill": 2, "evaluate": 2}, KEYS[5]: {"distill": 1, "evaluate": 2}}


def test_a_failed_unit_stops_what_is_behind_it_and_nothing_else(scratch):
    """One line with the unit, its reason and its log; what ended well is recorded, and the next start goes on from there."""
    content = stages()
    content["evaluate"]["do"]["cmd"] = "test ${item} != b/mgd/seed1 || { echo 'error: no room on the moon'; exit 3; }; " + content["evaluate"]["do"]["cmd"]  # fmt: skip
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": content}))
    failed = repro("--jobs", "2")
    recorded = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    content["evaluate"]["do"]["cmd"] = CELL["evaluate"]["do"]["cmd"]
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": content}))
    again = repro()

    assert failed.returncode == 2
    assert re.fullmatch(r"error: 1 .*\(b/mgd/seed1\), 1 .*work/logs/.*\n", failed.stderr), failed.stderr
    assert re.search(r"b/mgd/seed1 FAILED .*: no room on the moon.*work/logs/b/mgd/seed1\.log", failed.stdout)
    assert "distill@b/mgd/seed1" in recorded
    assert not {"evaluate@b/mgd/seed1", "report"} & recorded.keys()
    assert again.returncode == 0, again.stdout + again.stderr
    assert ran()["b/mgd/seed1"]["distill"] == 1


def test_what_changes_while_a_unit_runs_is_not_recorded(scratch):
    """Its result belongs to neither version: it says so, and it runs again."""
    content = stages()
    content["distill"]["do"]["cmd"] = "if test ${item} = a/none/seed0 && test ! -e edited; then touch edited; echo second > settings/${item}; fi; " + content["distill"]["do"]["cmd"]  # fmt: skip
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": content}))
    first = repro()
    recorded = yaml.safe_load(Path("dvc.lock").read_text())["stages"]
    second = repro()

    assert first.returncode == 2
    assert "distill@a/none/seed0: settings/a/none/seed0 changed" in first.stdout
    assert not {"distill@a/none/seed0", "evaluate@a/none/seed0"} & recorded.keys()
    assert second.returncode == 0, second.stdout + second.stderr
    assert ran()["a/none/seed0"]["distill"] == 2
    assert json.loads(dvc("status", "--json")) == {}


def test_forty_ends_at_any_moment(scratch):
    """SIGINT, SIGTERM, SIGKILL: dvc.lock is whole, a stage that it has is never run again, and the last start finishes the rest."""
    rng, kept, before = random.Random(0), 0, 0  # noqa: S311
    for number in range(40):
        if number % 5 == 0:  # the next round of the whole grid
            Path("word").write_text(f"round {number}\n")
            for key in KEYS:
                Path("ran", key).unlink(missing_ok=True)
        with started("--jobs", "2") as process:
            time.sleep(rng.triangular(0.3, 4.0, 1.5))
            process.send_signal((signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[number % 3])
            process.wait(60)
        text = Path("dvc.lock").read_text() if Path("dvc.lock").exists() else ""
        recorded = yaml.safe_load(text)["stages"] if text else {}
        assert len(recorded) >= before
        assert text == "" or text.endswith("\n")
        before = len(recorded)
        kept += sum(bool(counts) for counts in ran().values())
    done = repro()

    assert done.returncode == 0, done.stderr
    assert kept, "every start was ended before anything ran"
    # A stage may have been cut off in the middle, and be begun again; what was recorded, or had ended, is not.
    assert json.loads(dvc("status", "--json")) == {}
    assert Path("report").read_text().count("round 35") == len(KEYS)


def test_what_ended_before_it_could_be_recorded_is_taken_over(scratch):
    """A coordinator that is killed between a unit's end and its record: the next one records it and runs it no second time."""
    hold = "from pipelines.runner import record; import time; record.Record._write = lambda *_: time.sleep(600)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", hold + RUNNER], env=PYTHON, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    wait_for(lambda: Path("work/units/check/done.json").exists(), "the check has run")
    time.sleep(1)
    process.kill()
    process.wait()
    before = Path("checked/one").stat().st_mtime_ns
    assert not Path("dvc.lock").exists()
    done = repro()

    assert done.returncode == 0, done.stderr
    assert Path("checked/one").stat().st_mtime_ns == before
    assert ran() == ONCE
    assert not list(Path("work/units").rglob("unit.json"))


def sleeping(*names):
    """Stages that tell their process and sleep."""
    command = "echo $$ > {0}.new && mv {0}.new {0}.pid && exec sleep 600"
    return {name: {"cmd": command.format(name), "deps": ["checked"]} for name in names}


def is_gone(process, within_s=20):
    """Return True for a process that ends in time; the machine's first process need not have waited for it."""
    deadline = time.monotonic() + within_s
    with contextlib.suppress(psutil.NoSuchProcess):
        while psutil.Process(process).status() != psutil.STATUS_ZOMBIE:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
    return True


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_coordinator_ends_its_units(scratch, number):
    """All processes are gone; but for SIGKILL one line says so; a second coordinator is refused meanwhile, not afterwards."""
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"check": stages()["check"], **sleeping("x", "y")}}))
    with started("--jobs", "2") as runner:
        wait_for(lambda: Path("x.pid").exists() and Path("y.pid").exists(), "both run")
        second, status = repro(), repro("--status")
        runner.send_signal(number)
        _, err = runner.communicate(timeout=60)

    assert second.returncode == 2
    assert re.fullmatch(rf"error: .*process {runner.pid} on \S+.*\n", second.stderr), second.stderr
    assert re.search(r"^3 units: 1 done, 2 running$", status.stdout, re.MULTILINE), status.stdout
    assert re.search(r"running +x +\d+ s, process \d+ on", status.stdout), status.stdout
    if number != signal.SIGKILL:
        assert runner.returncode == 130
        assert re.fullmatch(r"stopped; .*\n", without_git_warning(err)), err
    assert all(is_gone(int(Path(f"{name}.pid").read_text())) for name in "xy")
    after = repro("--status").stdout
    assert "2 stopped" in after or "2 failed" in after, after


def test_each_unit_has_a_gpu_of_its_own(scratch):
    """Those of CUDA_VISIBLE_DEVICES, by one and by two; more units than GPUs never run at once."""
    command = 'echo $CUDA_VISIBLE_DEVICES >> gpus && test -z "$(ls held.$CUDA_VISIBLE_DEVICES 2>/dev/null)" && touch held.$CUDA_VISIBLE_DEVICES && sleep 0.3 && rm held.$CUDA_VISIBLE_DEVICES'  # fmt: skip
    Path("dvc.yaml").write_text(
        yaml.safe_dump(
            {"stages": {"check": stages()["check"], **{f"u{n}": {"cmd": command, "deps": ["checked"]} for n in range(6)}}}
        )
    )
    done = repro(CUDA_VISIBLE_DEVICES="7,9,11")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(Path("gpus").read_text().split()) == {"7", "9", "11"}

    Path("gpus").unlink()
    Path("word").write_text("second\n")
    Path("params.yaml").write_text(yaml.safe_dump({"cells": KEYS[:1]}))
    done = repro("--gpus-per-run", "2", CUDA_VISIBLE_DEVICES="7,9,11")
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(Path("gpus").read_text().split()) == {"7,9"}
    assert yaml.safe_load(Path("params.yaml").read_text()) == {"cells": KEYS[:1], "gpus_per_run": 2}
    refused = repro("--gpus-per-run", "4", CUDA_VISIBLE_DEVICES="7,9,11")
    assert yaml.safe_load(Path("params.yaml").read_text())["gpus_per_run"] == 2, "a refused number is not kept"
    assert re.fullmatch(r"error: gpus_per_run is 4.*\b3 GPUs \(7, 9, 11\).*--gpus-per-run\n", refused.stderr), refused.stderr


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--executor", "ray"], r"--executor ray .*local, slurm.*"),
        (["--executor", "slurm"], r"slurm\.yaml .*'partition: NAME' and 'minutes: N' .*"),
        (["--jobs", "0"], r"--jobs .*\b0\b.*"),
    ],
)
def test_bad_input_is_one_line(scratch, arguments, line):
    """Before anything runs."""
    done = repro(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(f"error: {line}\n", done.stderr), done.stderr
    assert not Path("dvc.lock").exists()


def test_all_of_slurm_yaml_that_is_wrong_is_said_at_once(scratch):
    """A misspelt key, a missing one and a wrong value."""
    Path("slurm.yaml").write_text("partion: gpu\nminutes: 0\nmemory: lots\n")
    done = repro("--executor", "slurm")

    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    for words in ("unknown key 'partion'", "key 'partition' is missing", "minutes: ", "memory: "):
        assert words in done.stderr


def test_no_slurm_here_is_one_line(scratch):
    """Its commands are named."""
    Path("slurm.yaml").write_text("partition: gpu\nminutes: 10\n")
    done = repro("--executor", "slurm", PATH=str(Path(sys.executable).parent))

    assert re.fullmatch("error: sbatch, squeue, scancel, scontrol .*PATH.*\n", done.stderr), done.stderr


def test_a_full_disk_while_recording_loses_nothing(scratch):
    """dvc.lock is the one before, one line says so, and the next start records what had ended without running it again."""
    full = (
        "import errno, os\nfrom pipelines.runner import lockfile\n"
        "def full(*_):\n    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "lockfile.os.fsync = full\n"
    )
    first = subprocess.run([sys.executable, "-c", full + RUNNER], env=PYTHON, capture_output=True, text=True, check=False)
    assert first.returncode == 2
    assert re.search(r"^error: .*No space left on device", first.stderr, re.MULTILINE), first.stderr
    assert not Path("dvc.lock").exists()
    ended = {
        path.parent.relative_to("work/units").as_posix(): json.loads(path.read_text())["stages"]
        for path in Path("work/units").rglob("done.json")
    }
    before = ran()
    second = repro()
    after = ran()

    assert second.returncode == 0, second.stderr
    assert ended
    for key, names in ended.items():
        for name in {name.partition("@")[0] for name in names} & ONCE.get(key, {}).keys():
            assert (before[key][name], after[key][name]) == (1, 1), (key, name)


def test_what_has_lost_an_output_before_it_was_recorded_runs_again(scratch):
    """An end inside DVC's commit, which moves outputs to the cache and links them back, leaves a unit that is done and has none."""
    hold = "from pipelines.runner import record; import time; record.Record._write = lambda *_: time.sleep(600)\n"
    with subprocess.Popen(
        [sys.executable, "-c", hold + RUNNER], env=PYTHON, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(lambda: Path("work/units/check/done.json").exists(), "the check has run")
        time.sleep(1)
        process.kill()
    shutil.rmtree("checked")
    done = repro()

    assert done.returncode == 0, done.stderr
    assert ran() == ONCE
    assert Path("checked/two").is_file()


def test_a_late_note_of_other_work_does_not_count(tmp_path, monkeypatch):
    """A process of an earlier attempt may end after the next was written."""
    monkeypatch.chdir(tmp_path)
    earlier, unit = (Unit("a/none/seed0", {"distill@a/none/seed0": "true"}, {"word": digest}) for digest in ("1", "2"))
    unit.write()
    earlier.note_done(list(earlier.commands))

    assert unit.done() == []
    assert earlier.done() == ["distill@a/none/seed0"]


@pytest.mark.parametrize(
    ("command", "number", "has_failed"),
    [
        ("kill -TERM $PPID; kill -KILL $$", signal.SIGKILL, False),
        ("kill -KILL $$", signal.SIGKILL, False),
        ("kill -SEGV $$", signal.SIGSEGV, True),
    ],
)
def test_a_job_that_slurm_ends_has_not_failed(tmp_path, monkeypatch, command, number, has_failed):
    """SIGKILL may reach a stage's processes before the job's own; a stage that dies of a fault of its own has failed."""
    monkeypatch.chdir(tmp_path)
    unit = Unit("a/none/seed0", {"distill@a/none/seed0": command})
    unit.write()
    job = f"from pipelines.runner import locks, unit; locks.check_shared = print; unit.run({str(unit.folder)!r})"
    ended = subprocess.run([sys.executable, "-c", job], env={**PYTHON, "SLURM_JOB_ID": "1"}, capture_output=True, check=False)

    assert ended.returncode == 256 - number
    assert (unit.failure() is not None) == has_failed


def test_a_coordinator_that_is_not_alone_with_dvc(scratch):
    """While another dvc works here it waits for nothing and says so."""
    once = "test -e begun || { touch begun; sleep 30; }"  # the coordinator's own check has nothing to wait for
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"check": {"cmd": once}}}))
    with subprocess.Popen([sys.executable, "-m", "dvc", "repro", "-q"], env=PYTHON, stdout=subprocess.DEVNULL) as other:
        wait_for(lambda: Path("begun").exists(), "dvc works")
        # DVC lets go of its lock while a stage's command runs, and takes it to write.
        lock = Path(".dvc/tmp/lock")
        done = repro()
        other.kill()
    assert lock.exists()
    assert done.returncode in (0, 2)


def test_a_cut_lock_file_is_restored_first(scratch, capsys):
    """As an interrupted plain dvc repro leaves it."""
    assert repro().returncode == 0
    whole = Path("dvc.lock").read_text()
    repro()
    Path("dvc.lock").write_text(whole[: len(whole) // 2])
    done = repro()

    assert "restored" in done.stdout
    assert Path("dvc.lock").read_text() == whole
    assert lockfile.KEPT.read_text() == whole
