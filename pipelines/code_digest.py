"""Digests of the project's code as it runs: of syntax trees without comments, docstrings and layout.

What a module imports of the project is followed, inside functions too.  Modules that only report, record or find files end the
search: what they pass to a run is in its resolved settings or verified by a digest.
"""

import ast
import hashlib
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

# Their results are in the resolved settings, or are no part of a run's or an evaluation's numbers.
_WITHOUT_EFFECT = frozenset({
    "benchmarks.images",  # this and the next three: what is wrong with files, and which ones a data set has; their digest is in its manifest
    "benchmarks.label_maps",
    "benchmarks.faults",
    "benchmarks.dataset",  # of a record what reaches a config is resolved
    "benchmarks.manifest",
    "benchmarks.metrics",  # a pair's own record is resolved
    "benchmarks.published_data",
    "benchmarks.paths",  # of users' files
    "benchmarks.own",  # this and the next two: schemas; their values are resolved
    "benchmarks.pair",
    "benchmarks.tier",
    "benchmarks.whole_file",  # how files are written
    "methods.recipe",
    "pipelines.circumstances",  # which errors are no result
    "pipelines.errors",  # prints errors
    "benchmarks.digest",  # of files
    "benchmarks.schema",  # this and the next: read and check files; the values are resolved
    "benchmarks.yaml_files",
    "pipelines.checking.models",  # this and the next two: refuse, or change nothing
    "pipelines.checking.recipes",
    "pipelines.checking.registry",
    "pipelines.engine.config_keys",
    "pipelines.engine.model_check",
    "pipelines.durations",  # text
    "pipelines.engine.checkpoints",  # which checkpoint a run goes on from: with the same result from any
    "pipelines.git_state",  # of a record
    "pipelines.first_uses",  # digests of files
    "pipelines.engine.fetch",  # what it fetches is verified by digest
    "pipelines.engine.progress",  # bars
    "pipelines.engine.provenance",  # machine and packages of a record
    "pipelines.engine.records",  # of what was trained
    "pipelines.engine.tracking",  # MLflow, this and the next
    "pipelines.engine.tracking_names",
    "pipelines.engine.workdir",  # locks
    "pipelines.grid",  # from here on: resolved
    "pipelines.layout",
    "pipelines.runner.parent_death",
    "pipelines.runner.locks",
    "pipelines.params",
    "pipelines.recipes",
    "pipelines.stage_list",
    "pipelines.conversion",
    "pipelines.resolved",
    "pipelines.code_digest",
    "pipelines.released.files",  # this and the next: which file; it is verified by digest, or by where it is
    "pipelines.released.registry",
    "pipelines.released.logs",  # of a record
    "benchmarks.artefacts",
    "benchmarks.reported",
    "reports.schemas.evidence",
    "pipelines.tuning.best",  # reads the file that a tuned cell depends on
    "reports.schemas.run",  # schemas of records
    "reports.schemas.study",
})  # fmt: skip
_PACKAGES = ("benchmarks", "methods", "pipelines", "reports")


def code_of(modules: Iterable[str], *, without: Collection[str] = ()) -> dict[str, str]:
    """Return the digest of each module that the given ones consist of, themselves among them.

    Args:
        modules: dotted names.
        without: modules that are not used though they are imported.

    Raises:
        ValueError: a module is not there or is no Python.
    """
    found: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        if name in found or name in _WITHOUT_EFFECT or name in without:
            continue
        digest, imported = _parsed(_file(name))
        found[name] = digest
        waiting += imported
    return dict(sorted(found.items()))


def _file(name: str) -> Path:
    path = Path(*name.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _parsed(path: Path) -> tuple[str, tuple[str, ...]]:
    try:
        written = path.stat()
        return _read(path, (path.resolve(), written.st_mtime_ns, written.st_size))
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error


@lru_cache(maxsize=1024)
def _read(path: Path, _version: tuple[Path, int, int]) -> tuple[str, tuple[str, ...]]:
    try:
        tree = ast.parse(path.read_text())
    except SyntaxError as error:
        raise ValueError(f"{path}: line {error.lineno} is not Python ({error.msg})") from error
    digest = hashlib.sha256("\0".join(_words(tree)).encode()).hexdigest()[:16]
    return digest, tuple(sorted({name for node in ast.walk(tree) for name in _imported(node)}))


def _words(node: object) -> Iterator[str]:
    """Yield a tree as words, the same for every version of Python: fields that are empty or give a node's place are excluded."""
    if isinstance(node, ast.AST):
        yield type(node).__name__
        for name, value in ast.iter_fields(node):
            if name == "body" and isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                value = _without_docstring(value)  # noqa: PLW2901 (the field without its docstring)
            if value not in (None, [], "") and name not in ("kind", "type_comment"):
                yield name
                yield from _words(value)
        yield "."
    elif isinstance(node, list):
        for one in node:
            yield from _words(one)
    else:
        yield repr(node)


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    first = body[0] if body else None
    is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    return body[1:] if is_text else body


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the names of the project's modules that a statement imports; ``from package import module`` names the module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names if alias.name.split(".")[0] in _PACKAGES)
    elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0 and node.module.split(".")[0] in _PACKAGES:
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            yield inner if _file(inner).is_file() else node.module
