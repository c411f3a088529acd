"""Verb ``studies``: Optuna's pages."""

from pipelines.params import load_grid

_PACKAGE = "optuna-dashboard==0.21.0"


def studies(*, host: str = "127.0.0.1", port: int = 8080) -> None:
    """Serve Optuna's pages on the studies of the tier in params.yaml.

    Trials, the course of the search and the importance of each hyper-parameter, of a copy made at the start:
    studies go on beside it, and nothing that is changed in the pages reaches them. Ctrl-C ends the server.

    Args:
        host: address to serve at; 0.0.0.0 for every one of this machine.
        port: number of the port.
    """
    try:
        from optuna_dashboard import run_server  # noqa: PLC0415 (optional)
    except ImportError as error:
        raise ValueError(f"Optuna's pages are not installed: .venv/bin/pip install {_PACKAGE}") from error
    from pipelines.tuning.studies import copied_studies  # noqa: PLC0415 (a second)

    copies = copied_studies(load_grid().tier)
    print(f"{len(copies.get_all_studies())} studies: http://{host}:{port}/dashboard/", flush=True)
    run_server(copies, host=host, port=port)
