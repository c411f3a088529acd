"""The registries of reported results and of what was released, and the way from one to the other."""

from pathlib import Path

from benchmarks.artefacts import Artefacts, ReleasedStudent
from benchmarks.reported import Registry, RegistryEntry
from pipelines.params import load_yaml


def artefacts() -> Artefacts:
    """Read ``benchmarks/artefacts.yaml``."""
    return load_yaml(Path("benchmarks/artefacts.yaml"), Artefacts)


def reported() -> dict[str, RegistryEntry]:
    """Read the registry of reported results, by id."""
    return {entry.id: entry for entry in load_yaml(Path("benchmarks/reported.yaml"), Registry).root}


def students_of(pair: str, method: str) -> list[str]:
    """Return the names of the students, released with weights or a log, of a pair's row; ValueError where there are none."""
    entries = reported()
    of_row = {name for name, entry in entries.items() if entry.place == (pair, method)}
    students = {name: one for name, one in artefacts().students.items() if of_row & {*one.reported}}
    if found := [name for name, one in students.items() if one.weights or one.log]:
        return found
    reasons = "; ".join(str(one.nothing) for one in students.values())
    known = f"there is nothing to evaluate: {reasons}" if reasons else "no artefact of it is known"
    quoted = f"{len(of_row)} results are reported" if of_row else "no result is reported"
    raise ValueError(f"{method} on {pair}: {known}; {quoted} (./kd results {pair}), and ./kd evidence says what can be checked")


def student_named(name: str) -> tuple[ReleasedStudent, RegistryEntry]:
    """Return a released student and the reported result that is compared with; ValueError where there is no such name."""
    students = artefacts().students
    if name not in students:
        raise ValueError(f"params.yaml: released: no student '{name}'; benchmarks/artefacts.yaml has: {', '.join(students)}")
    return students[name], reported()[students[name].reported[0]]
