"""Names in the registries of reported results and of what was released."""

from collections.abc import Iterator
from pathlib import Path

from benchmarks.artefacts import Artefacts
from benchmarks.reported import RegistryEntry


def check_registries(entries: list[RegistryEntry], released: Artefacts) -> None:
    """ValueError where a registry names a pair, a recipe or a reported result that there is not."""
    if wrong := [*_of_results(entries), *_of_artefacts(released, {entry.id for entry in entries})]:
        raise ValueError("; also: ".join(wrong[:5]))


def _of_results(entries: list[RegistryEntry]) -> Iterator[str]:
    pairs, methods = _stems("benchmarks/pairs"), _stems("methods")
    for entry in entries:
        named = [entry.pair, entry.place[0]]
        if unknown := [name for name in named if name is not None and name not in pairs]:
            yield f"benchmarks/reported.yaml: {entry.id}: there is no pair {unknown[0]}"
        parts = [part for name in (entry.method, entry.place[1]) if name for part in name.split("+")]
        if unknown := [part for part in parts if part not in methods]:
            yield f"benchmarks/reported.yaml: {entry.id}: there is no recipe {unknown[0]}"


def _of_artefacts(released: Artefacts, known: set[str]) -> Iterator[str]:
    pairs, methods = _stems("benchmarks/pairs"), _stems("methods")
    for name, student in released.students.items():
        if unknown := [one for one in student.reported if one not in known]:
            yield f"benchmarks/artefacts.yaml: students.{name}.reported: reported.yaml has no {unknown[0]}"
    for name, tokens in released.tokens.items():
        if unknown := [one for one in tokens.pairs if one not in pairs]:
            yield f"benchmarks/artefacts.yaml: tokens.{name}.pairs: there is no pair {unknown[0]}"
        if tokens.method not in methods:
            yield f"benchmarks/artefacts.yaml: tokens.{name}.method: there is no recipe {tokens.method}"


def _stems(folder: str) -> set[str]:
    return {path.stem for path in Path(folder).glob("*.yaml")}
