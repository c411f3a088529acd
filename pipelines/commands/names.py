"""Names that a command line may ask for: all that there are, and whether those given are among them."""

from collections.abc import Callable, Sequence
from pathlib import Path

# Names that join methods cannot be listed from the folder; this is the one that was published.
JOINED = ("crosskd+pkd", "kd+ld_vlr", "cwd+kd")


def all_pairs() -> list[str]:
    """Every pair's name."""
    return sorted(path.stem for path in Path("benchmarks/pairs").glob("*.yaml"))


def all_methods() -> list[str]:
    """Every method's name, the baseline first, and the published combinations."""
    names = {path.stem for path in Path("methods").glob("*.yaml")}
    return ["none", *sorted(names - {"none"}), *JOINED]


def known(option: str, names: Sequence[str], load: Callable[[str], object]) -> list[str]:
    """The names, each once.

    Args:
        option: of the command line that gave them.
        names: as given.
        load: reads the file of a name, and blames params.yaml where it cannot.

    Raises:
        ValueError: a name is unknown or its file wrong; the option is blamed.
    """
    for name in names:
        try:
            load(name)
        except ValueError as error:
            raise ValueError(str(error).replace("params.yaml", option, 1)) from error
    return list(dict.fromkeys(names))
