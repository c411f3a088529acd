"""Functions in processes of their own: what they return, how they end, and with whom."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from pipelines.runner import processes
from pipelines.runner.processes import Child, call
from tests.conftest import ROOT
from tests.small_grid import wait_for

# What is called there, in a module that the test writes.
CALLED = """
import os, signal, sys, time
from pathlib import Path

def about(word):
    print("said", word)
    print("complained", file=sys.stderr)
    return {"pid": os.getpid(), "told": os.environ.get("TOLD"), "stage": os.environ.get("DVC_STAGE"), "had": "torch" in sys.modules, "word": word}

def refuse():
    from pipelines.params import load_yaml
    load_yaml(Path("a\\nfile"), None)

def fail():
    return 1 / 0

def sleep():
    Path("asleep").write_text(str(os.getpid()))
    time.sleep(600)

def leave():
    sys.exit(3)

def importing():
    from pipelines.circumstances import interrupt_once
    signal.signal(signal.SIGTERM, interrupt_once)
    import slow

def nap(seconds):
    time.sleep(seconds)
    return seconds

def fill():
    raise OSError(28, "No space left on device")
"""
# A process that calls one of them, so that it can be killed.
CALLER = """
from pipelines.runner import processes
processes._PRELOADED.clear()
processes.call("called:sleep")
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """The working directory, and a fork server that imports nothing."""
    (tmp_path / "called.py").write_text(CALLED)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "_PRELOADED", [])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{ROOT}")


def ended(child):
    """The result of a child, once it has ended."""
    while (found := child.poll(1.0)) is None:
        pass
    return found


def test_a_result_comes_back():
    """From another process, which knows nothing of a stage of DVC's that called it."""
    os.environ["DVC_STAGE"] = "tune"
    try:
        found = call("called:about", "hello")
    finally:
        del os.environ["DVC_STAGE"]

    assert (found.error, found.exit_code, found.was_killed) == (None, 0, False)
    assert found.result["word"] == "hello"
    assert found.result["stage"] is None
    assert found.result["pid"] != os.getpid()


def test_environment_and_log_are_its_own():
    """Both output streams go to the end of its log; this process's environment stays."""
    log = Path("deep/log.txt")
    log.parent.mkdir()
    log.write_text("before\n")
    found = ended(Child("called:about", "x", environment={"TOLD": "so"}, log=log))

    assert found.result["told"] == "so"
    assert "TOLD" not in os.environ
    assert log.read_text().splitlines()[0] == "before"
    assert sorted(log.read_text().splitlines()[1:]) == ["complained", "said x"]


def test_an_end_while_modules_are_imported_is_no_error():
    """SIGTERM, as a coordinator sends it that is interrupted: the exit code of Ctrl-C, and no traceback."""
    Path("slow.py").write_text("import time\nfrom pathlib import Path\nPath('importing').touch()\ntime.sleep(600)\n")
    child = Child("called:importing", log=Path("log.txt"))
    wait_for(Path("importing").is_file, "its modules are imported")
    child.terminate()
    found = ended(child)

    assert (found.error, found.exit_code) == (None, 130)
    assert Path("log.txt").read_text() == ""


@pytest.mark.parametrize(
    ("function", "line"),
    [
        ("refuse", "a file: cannot be read (No such file or directory)"),
        ("fail", "ZeroDivisionError: division by zero; the traceback is in traces/one.txt"),
    ],
)
def test_an_error_is_one_line(function, line):
    """A user's as it is, another with its type; the traceback is in a file."""
    trace = Path("traces/one.txt")
    found = ended(Child(f"called:{function}", trace=trace))

    assert (found.result, found.error, found.exit_code) == (None, line, 0)
    assert f"in {function}" in trace.read_text()


def test_an_end_without_a_word_is_known_by_its_code():
    """Its own exit, a signal."""
    assert ended(Child("called:leave")).exit_code == 3
    child = Child("called:sleep")
    assert child.poll() is None
    os.kill(child.pid, signal.SIGKILL)
    found = ended(child)

    assert (found.exit_code, found.was_killed, found.error) == (-signal.SIGKILL, True, None)


def test_what_waits_is_called_meanwhile():
    """Each while, with the process known from its start."""
    seen = []

    def meanwhile():
        seen.append(psutil.pid_exists(seen[0]))
        os.kill(seen[0], signal.SIGTERM)

    found = call("called:sleep", started=seen.append, every_s=0.2, meanwhile=meanwhile)

    assert found.exit_code == -signal.SIGTERM
    assert seen[1] is True


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_whoever_started_it(number):
    """However that ends."""
    caller = subprocess.Popen([sys.executable, "-c", CALLER])
    deadline = time.monotonic() + 60
    while not Path("asleep").is_file() or not Path("asleep").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    pid = int(Path("asleep").read_text())
    caller.send_signal(number)
    caller.wait()
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, "it outlives its caller"
        time.sleep(0.05)


@pytest.mark.slow
def test_it_is_forked_from_one_that_has_imported():
    """The fork server of stages, trials and bench has MMLab; a child has it at once."""
    code = (
        "import json, sys\nfrom pipelines.runner.processes import call\n"
        "found = call('called:about', 'x')\nprint(json.dumps([found.result['had'], 'torch' in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path.cwd())

    assert json.loads(done.stdout.splitlines()[-1]) == [True, False]


def test_a_killed_fork_server_costs_no_result():
    """A child that it has started goes on, and its result is taken; the next is forked from another server."""
    child = Child("called:nap", 1.0)
    server = psutil.Process(child.pid).ppid()
    os.kill(server, signal.SIGKILL)
    first, second = ended(child), ended(Child("called:nap", 0.0))

    assert (first.result, first.exit_code, first.was_killed) == (1.0, 0, False)
    assert (second.result, second.exit_code) == (0.0, 0)


def test_a_circumstance_is_told_from_an_error():
    """Across the process's end: a full disk is one."""
    full, wrong = ended(Child("called:fill")), ended(Child("called:refuse"))

    assert "No space left on device" in full.error
    assert full.is_circumstance
    assert not wrong.is_circumstance


GROUP = """
import os, signal, sys, time
from pipelines.runner import processes
processes._PRELOADED[:] = ["slow"]
signal.signal(signal.SIGINT, lambda *_: sys.exit(130))
child = processes.Child("called:about", "x")
child.poll(60)
"""


def test_ctrl_c_is_quiet_while_the_fork_server_imports(tmp_path):
    """It reaches the whole process group; the server ends with its starter, without a traceback."""
    (tmp_path / "slow.py").write_text("import time\nfrom pathlib import Path\nPath('slow.begun').touch()\ntime.sleep(60)\n")
    with subprocess.Popen([sys.executable, "-c", GROUP], stderr=subprocess.PIPE, text=True, start_new_session=True) as process:
        wait_for((tmp_path / "slow.begun").exists, "it imports")
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
        err = process.stderr.read()

    assert err == ""


DROPPED = """
import os, signal, time, weakref
from pipelines.circumstances import interrupt_once
signal.signal(signal.SIGTERM, interrupt_once)

def end(*_):
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.01)

class Dying:
    __del__ = end

class Known: pass

kept = {made}
try:
    {drop}
    time.sleep(60)
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize(
    ("made", "drop"),
    [("Dying()", "del kept"), ("(one := Known(), weakref.ref(one, end))", "kept = kept[1]; del one")],
)
def test_an_interrupt_that_python_drops_comes_again(made, drop):
    """Within a destructor or a weak reference's callback an error goes nowhere but to the terminal."""
    done = subprocess.run(
        [sys.executable, "-c", DROPPED.replace("{made}", made).replace("{drop}", drop)],
        cwd=ROOT, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip

    assert (done.stdout, done.stderr, done.returncode) == ("interrupted\n", "", 0)
