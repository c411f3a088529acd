"""Settings of the suite's runs against those behind reported results, as far as a machine can compare them."""

from collections.abc import Iterable, Sequence

from benchmarks.pair import Pair
from benchmarks.reported import RegistryEntry, Settings
from pipelines.params import load_pair
from pipelines.recipes import cell_config, cell_parts, flat_hparams, impossible_reason, load_parts
from reports.schemas.run import Run

PAPER_SCALE = "paper"  # the tier whose recipes and schedules are the published ones


def settings_here(
    pair_name: str,
    pair: Pair,
    method: str,
    *,
    tier: str = PAPER_SCALE,
    batch_size: int | None = None,
    images_per_gpu: int | None = None,
) -> Settings:
    """Return the settings of the suite's own run.

    Args:
        pair_name: of the pair's file.
        pair: its content.
        method: recipe, or a combination.
        tier: whose overrides apply.
        batch_size: where it is not the pair's.
        images_per_gpu: whose losses a run formed together; the pair's if None.
    """
    parts, _ = cell_parts(method, pair_name, pair, tier)
    return Settings(
        teacher=pair.teacher.checkpoint and pair.teacher.checkpoint.sha256,
        epochs=pair.epochs,
        iterations=pair.iterations,
        batch_size=batch_size or pair.batch_size,
        images_per_gpu=images_per_gpu or pair.images_per_gpu,
        hparams=flat_hparams(parts),
        inherits=sorted({name for part in parts for name in part.inherits}),
        config=pair.student.changes | cell_config(method, pair_name, pair, tier),
    )


def contradictions(stated: Settings, here: Settings) -> list[str]:
    """Return the settings of a result that differ from a run's, such as ``batch_size 6, here 16``; not those per GPU."""
    found = []
    if (
        stated.teacher
        and here.teacher
        and not (stated.teacher.startswith(here.teacher) or here.teacher.startswith(stated.teacher))
    ):
        found.append(f"teacher {stated.teacher}, here {here.teacher}")
    for key in ("epochs", "iterations", "batch_size"):
        value = getattr(stated, key)
        if value is not None and value != getattr(here, key):
            found.append(f"{key} {value}, here {getattr(here, key)}")
    if stated.inherits is not None and sorted(stated.inherits) != here.inherits:
        found.append(f"inherits {_listed(stated.inherits)}, here {_listed(here.inherits or [])}")
    for where in ("hparams", "config"):
        given, own = getattr(stated, where), getattr(here, where)
        found += [f"{key} {value}, here {own.get(key)}" for key, value in given.items() if own.get(key) != value]
    return found


def split_differs(stated: Settings, here: Settings, method: str) -> str | None:
    """Return the difference in images per GPU, where a part of the method depends on them."""
    if stated.images_per_gpu in (None, here.images_per_gpu) or not any(part.method.per_gpu for part in load_parts(method)):
        return None
    return (
        f"world size: {stated.images_per_gpu} images on a GPU, here {here.images_per_gpu}, and a loss of {method} depends on which "
        "images are on one"
    )


def check_comparable(figures: Iterable[RegistryEntry], pairs: Sequence[str], methods: Sequence[str]) -> None:
    """Compare results marked comparable with the suite's runs; ValueError where their settings differ."""
    for figure in figures:
        pair_name, method = figure.place
        if not figure.comparable or pair_name not in pairs or method not in methods:
            continue
        pair = load_pair(str(pair_name))
        if impossible_reason(str(pair_name), pair, str(method), PAPER_SCALE):
            continue
        if found := contradictions(figure.settings, settings_here(str(pair_name), pair, str(method))):
            raise ValueError(
                f"benchmarks/reported.yaml: {figure.id} is marked comparable, and its settings are not those of {method} on "
                f"{pair_name}: {'; '.join(found)}; correct the recipe or the pair, or mark it 'comparable: false' with 'differs'"
            )


def _listed(names: Sequence[str]) -> str:
    return " and ".join(names) or "nothing"


def run_differences(
    stated: Settings, pair_name: str, pair: Pair, method: str, runs: Sequence[Run], *, tier: str, batch_size: int | None
) -> list[str]:
    """Return the settings of a result that differ from those of our runs; of none yet, from those that they will have.

    Args:
        stated: of the result.
        pair_name: of the pair's file.
        pair: its content.
        method: of the runs.
        runs: of one row.
        tier: that they are of.
        batch_size: where it is not the pair's.
    """
    images_per_gpu = next((run.images_per_gpu for run in runs if run.images_per_gpu), None)
    here = settings_here(pair_name, pair, method, tier=tier, batch_size=batch_size, images_per_gpu=images_per_gpu)
    split = split_differs(stated, here, method)
    formats = sorted({run.precision for run in runs} - {"fp32"})
    return [*contradictions(stated, here), *([split] if split else []), *(f"number format {name}" for name in formats)]
