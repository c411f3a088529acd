"""A process that has MMLab imported, and from which ``make repro`` forks its stages: importing takes longer than some do.

The runner starts it, and gives each DVC a connection to it.  A stage so started is what it would be in a process of its
own: it has its own environment and arguments, writes where its DVC writes, and ends when its DVC is gone.  Once a file
of what is imported has been edited, stages start in processes of their own again: DVC records the code as it is now.
"""

import contextlib
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pipelines.lifeline import die_with_parent

_FD = "STAGES_WARM_FD"  # in the environment of a DVC: the file descriptor of its connection
_MOST_BYTES = 2**20
_PRELOADED = ("pipelines.tuning.preload", "mlflow")
# Asking CUDA itself whether there is a GPU, as MMEngine does when imported, would leave it unusable after a fork.
_ASKS_NVML = {"PYTORCH_NVML_BASED_CUDA_CHECK": "1"}
_EDITED = b"edited"


class Connection:
    """A DVC's end: stages it asks for run one after the other."""

    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def run(self, module: str, arguments: list[str], environment: dict[str, str]) -> int | None:
        """Run ``python -m module arguments`` in a forked process that writes where this one does.

        Returns:
            Its exit code, negative for a signal; None where it must be started otherwise.
        """
        request = json.dumps({"module": module, "arguments": arguments, "environment": environment})
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        try:
            socket.send_fds(self._socket, [request.encode()], [1, 2])
        except OSError:  # it is gone
            return None
        answer = self._socket.recv(64)
        return None if answer == _EDITED else int(answer or -signal.SIGKILL)


def connection() -> Connection | None:
    """The connection that the runner gave to this process, if it did."""
    fd = os.environ.pop(_FD, None)
    return Connection(int(fd)) if fd else None


class Server:
    """The runner's handle on the process; where it cannot be (it takes Linux), stages start in processes of their own."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if hasattr(os, "pidfd_open"):
            self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "pipelines.warm", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()], start_new_session=True, env={**os.environ, **_ASKS_NVML},
                )  # fmt: skip

    def __enter__(self) -> "Server":  # noqa: PYI034 (Python 3.10 has no Self)
        return self

    def __exit__(self, *_: object) -> None:
        """End the process; a stage that runs ends with its DVC."""
        if self._process:
            self._socket.close()
            self._process.terminate()
            self._process.wait()

    @contextlib.contextmanager
    def connected(self) -> Iterator[tuple[dict[str, str], tuple[int, ...]]]:
        """Environment and file descriptors for a process that is to have a connection."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            try:
                if self._process is None:
                    raise OSError("no such process here")
                socket.send_fds(self._socket, [b"new"], [theirs.fileno()])
            except OSError:
                yield {}, ()
            else:
                yield {_FD: str(ours.fileno())}, (ours.fileno(),)


def _last_written() -> dict[str, int]:
    """Files of the project's imported modules, and when each was written, ns since the epoch; 0 for one that is gone."""
    root = Path(__file__).parents[1]
    names = [file for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
    ours = [name for name in names if Path(name).is_relative_to(root) and "site-packages" not in name]
    return {name: Path(name).stat().st_mtime_ns if Path(name).exists() else 0 for name in ours}


def _serve(server: socket.socket) -> None:
    """Fork a process for every connection, until the runner is gone."""
    imported = _last_written()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for those processes
    while True:
        message, fds, _, _ = socket.recv_fds(server, 16, 1)
        if not message:
            return
        if os.fork() == 0:
            server.close()
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            die_with_parent()
            _attend(socket.socket(fileno=fds[0]), imported)
            os._exit(0)
        os.close(fds[0])


def _attend(dvc: socket.socket, imported: dict[str, int]) -> None:
    """Run what one DVC asks for, until it is gone; a stage that runs then is ended.

    Args:
        dvc: the other end of its connection.
        imported: of :func:`_last_written`, when this process's parent had imported everything.
    """
    while True:
        message, fds, _, _ = socket.recv_fds(dvc, _MOST_BYTES, 2)
        if not message:
            return
        if _last_written() != imported:
            dvc.send(_EDITED)
            continue
        pid = os.fork()
        if pid == 0:
            dvc.close()
            _become(json.loads(message), fds)
        for fd in fds:
            os.close(fd)
        ended = os.pidfd_open(pid)
        ready, _, _ = select.select([dvc.fileno(), ended], [], [])
        if ended not in ready:
            os.kill(pid, signal.SIGTERM)
        os.close(ended)
        _, status = os.waitpid(pid, 0)
        with contextlib.suppress(OSError):
            dvc.send(str(os.waitstatus_to_exitcode(status)).encode())


def _become(request: dict[str, Any], fds: Sequence[int]) -> NoReturn:
    """Be ``python -m module``, and end with its exit code."""
    code: object = 1
    die_with_parent()
    random.seed()
    try:
        for target, fd in enumerate(fds, start=1):
            os.dup2(fd, target)
            os.close(fd)
        os.environ.update(request["environment"])
        sys.argv = ["", *request["arguments"]]
        sys.modules.pop(request["module"], None)
        runpy.run_module(request["module"], run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code if isinstance(code, int) else int(code is not None))


def main() -> None:
    """Import, then serve the runner."""
    die_with_parent()
    server = socket.socket(fileno=int(sys.argv[1]))
    for module in _PRELOADED:
        importlib.import_module(module)
    _serve(server)


if __name__ == "__main__":
    main()
