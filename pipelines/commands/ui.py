"""Verb ``ui``: MLflow's pages."""

import os
import subprocess
import sys


def ui(*, host: str = "127.0.0.1", port: int = 5000) -> None:
    """Serve MLflow's pages on the runs.

    The tracking store is MLFLOW_TRACKING_URI, or the file mlflow/mlflow.db. Ctrl-C ends the server.

    Args:
        host: address to serve at; 0.0.0.0 for every one of this machine.
        port: number of the port.
    """
    from pipelines.engine.tracking import open_store  # noqa: PLC0415 (seconds, in MLflow)

    command = ["-m", "mlflow", "ui", "--backend-store-uri", open_store(), "--host", host, "--port", str(port)]
    if code := subprocess.run([sys.executable, *command], env=os.environ, check=False).returncode:  # noqa: S603
        raise ValueError(f"MLflow's server ended with exit code {code}; its own lines above say why")
