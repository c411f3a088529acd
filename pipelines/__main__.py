"""``python -m pipelines VERB``, which ``./kd VERB`` runs."""

from pipelines.runner.parent_death import end_quietly

end_quietly()  # before what takes a moment

from pipelines import errors  # noqa: E402 (behind what it needs)


def main() -> None:
    """Run a verb; ValueError where nothing is installed."""
    try:
        from pipelines.commands import app  # noqa: PLC0415 (so that a missing package is one line)
    except ModuleNotFoundError as error:
        raise ValueError(f"{error.name} is not installed for this Python; run make install") from error
    app.main()


if __name__ == "__main__":
    errors.run(main)
