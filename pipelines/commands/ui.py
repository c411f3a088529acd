"""Verb ``ui``: MLflow's pages."""

import os
import signal
import socket
import subprocess
import sys
import time
import webbrowser

import requests

from pipelines import layout
from pipelines.circumstances import interrupt_once
from pipelines.commands.terminal import Switch
from pipelines.params import load_grid, load_pair

_POLL_S = 0.5
_START_S = 180.0  # on a busy machine; most of it are MLflow's imports
# Of a server for one person: no telemetry from it or its pages, one worker, and no queue of jobs, which are for language models.
_OPTIONS = ("--workers", "1", "--uvicorn-opts", "--log-level=warning")
_ENVIRONMENT = {"MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}


def ui(*, host: str = "127.0.0.1", port: int = 5000, pair: str | None = None, no_browser: Switch = False) -> None:
    """Serve MLflow's pages on the runs.

    The tracking store is MLFLOW_TRACKING_URI, or the file mlflow/mlflow.db. The pages' addresses are printed, one per pair of
    params.yaml: its students, grouped by row of the leaderboard. In a terminal, the first is opened in the browser.
    Ctrl-C ends the server.

    Args:
        host: address to serve at; 0.0.0.0 for every one of this machine.
        port: number of the port.
        pair: whose list to open; the first if not given.
        no_browser: open none.
    """
    _check_free(host, port)
    links = pages(pair)
    from pipelines.engine.tracking import open_store  # noqa: PLC0415 (seconds, in MLflow)

    signal.signal(signal.SIGTERM, interrupt_once)  # as Ctrl-C, so that the server ends, too
    command = ["-m", "mlflow", "ui", "--backend-store-uri", open_store(), "--host", host, "--port", str(port), *_OPTIONS]
    server = subprocess.Popen([sys.executable, *command], env={**os.environ, **_ENVIRONMENT})
    try:
        root = f"http://{'127.0.0.1' if host == '0.0.0.0' else host}:{port}/"  # noqa: S104 (compared)
        if _answers(f"{root}health", server):
            for name, link in links.items():
                print(f"{name}: {root}{link}", flush=True)
            if sys.stdout.isatty() and not no_browser:
                webbrowser.open(root + links.get(pair or "", next(iter(links.values()))))
        code = server.wait()
    except KeyboardInterrupt:
        code = 0
    finally:
        server.terminate()
        server.wait()
    if code:
        raise ValueError(f"MLflow's server ended with exit code {code}; its own lines above say why")


def pages(pair: str | None = None) -> dict[str, str]:
    """Return the address of each pair's list from the server's root, once MLflow has the last report's results.

    Args:
        pair: one that must be among them.

    Raises:
        ValueError: it is not.
    """
    from pipelines.engine.tracking_board import enter_board, enter_views  # noqa: PLC0415 (seconds, in MLflow)

    grid = load_grid()
    if pair is not None and pair not in grid.rows:
        raise ValueError(f"--pair {pair} is not in params.yaml's grid; there are: {', '.join(grid.rows)}")
    leaderboard = layout.report(grid.tier) / "leaderboard.json"
    links: dict[str, str] = {}
    try:
        links = enter_views(grid.tier, {name: load_pair(name).metric for name in grid.rows})
        if links and leaderboard.is_file():
            enter_board(leaderboard)
    except Exception as error:  # noqa: BLE001 (the pages are worth seeing without them)
        print(f"warning: MLflow: {leaderboard} is not entered: {' '.join(str(error).split())}", file=sys.stderr)
    return links or {"no runs yet": "#/experiments?workflowType=machine_learning"}


def _check_free(host: str, port: int) -> None:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ValueError(
                f"{host}:{port} cannot be served at ({error.strerror}); give another port: --port {port + 1}"
            ) from error


def _answers(address: str, server: "subprocess.Popen[bytes]") -> bool:
    """Wait until the server answers; return False where it has ended or takes too long."""
    deadline = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            if requests.get(address, timeout=_POLL_S * 10).ok:
                return True
        except requests.RequestException:
            pass
        time.sleep(_POLL_S)
    return False
