"""The ledger of evidence: for each reported result what supports it, cheapest first, and what would add to it.

Made from the registries and from records alone; nothing is trained, downloaded or opened besides.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from benchmarks.artefacts import Artefact, ReleasedStudent
from benchmarks.dataset import datasets
from benchmarks.metrics import METRICS
from benchmarks.pair import Pair
from benchmarks.reported import RegistryEntry
from pipelines import layout
from pipelines.params import load_pair, load_tier
from pipelines.released.files import place_of
from pipelines.released.logs import compare_levels
from pipelines.released.registry import artefacts, reported
from pipelines.reporting.comparability import PAPER_SCALE, run_differences
from pipelines.reporting.margins import margins
from pipelines.reporting.records import read_record, released_records
from reports.schemas import evidence
from reports.schemas.evidence import LedgerEntry, Rung
from reports.schemas.run import Metrics, Run
from reports.stats import inference
from reports.stats.released import reported_score
from reports.stats.verdicts import half_digit


@dataclass(frozen=True)
class Trained:
    """Our own students of a row at full size."""

    scores: list[float]
    runs: list[Run]


def ledger(tiers: Sequence[str] | None = None, *, looks_for_files: bool = False) -> list[LedgerEntry]:
    """Return all reported results with their evidence, in the registry's order.

    Args:
        tiers: whose records count, if they are of published data and models; all that have records if None.
        looks_for_files: whether to say which files are among the downloads; it differs from machine to machine.
    """
    names = sorted(path.name for path in layout.RUNS.glob("*") if path.is_dir()) if tiers is None else tiers
    full = [name for name in names if _is_full_size(name)]
    registry, released = reported(), artefacts()
    records = {record.student: record for name in full for record in released_records(name)}
    pairs = {entry.place[0]: load_pair(entry.place[0]) for entry in registry.values() if entry.place[0]}
    found = []
    for entry in registry.values():
        name, student = released.of(entry.id) or (None, None)
        pair = pairs.get(entry.place[0] or "")
        verdicts = _verdicts(entry, student, records.get(name or ""), _trained(full, entry), looks_for_files=looks_for_files)
        found.append(
            LedgerEntry(
                id=entry.id, pair=entry.place[0], setting=entry.setting, method=entry.shown_method, is_row=entry.comparable is not None,
                what=entry.what, kind=entry.kind.replace("_", " "), metric=entry.metric, value=entry.value,
                gain=None if entry.baseline is None else round(entry.value - entry.baseline, 4), source=entry.source,
                verdicts=verdicts, confounds=list(_confounds(entry, pair, registry.values(), records.get(name or ""))),
                next_step=_next_step(entry, name, student, verdicts, looks_for_files=looks_for_files),
            )
        )  # fmt: skip
    return found


def _is_full_size(tier_name: str) -> bool:
    if not Path(f"benchmarks/tiers/{tier_name}.yaml").is_file():
        return False
    tier = load_tier(tier_name)
    return tier.data == "published" and tier.model is None


def _trained(tiers: Iterable[str], entry: RegistryEntry) -> Trained:
    pair, method = entry.place
    scores, runs = [], []
    for tier in tiers if pair and method else []:
        for path in sorted((layout.runs(tier) / str(pair) / str(method)).glob(f"seed*/{layout.METRICS}")):
            run, metrics = read_record(path.with_name(layout.RUN), Run), read_record(path, Metrics)
            score = metrics.flat().get(METRICS[entry.metric].key)
            if run.status == "done" and score is not None:
                scores.append(score)
                runs.append(run)
    return Trained(scores, runs)


def _verdicts(
    entry: RegistryEntry,
    student: ReleasedStudent | None,
    record: evidence.ReleasedStudent | None,
    trained: Trained,
    *,
    looks_for_files: bool,
) -> dict[Rung, str]:
    found: dict[Rung, str] = {"quoted": entry.read}
    if student and (files := [file for file in (student.weights, student.log) if file]):
        kinds = ["weights" if file is student.weights else "log" for file in files]
        found["artefact known"] = "; ".join(
            f"{kind} {_where(file, looks_for_files=looks_for_files)}" for kind, file in zip(kinds, files, strict=True)
        )
    if record and (score := next((one for one in record.scores if one.reported == entry.id), None)):
        how = "agree" if score.agrees else f"differ by {score.off:.2f}"
        found["weights re-evaluated"] = f"{how}: {score.measured:.2f} here; the weights, not the method"
    if record and record.log:
        log = record.log
        ends = [reported_score(entry.id, entry.metric, entry.value, value).off == 0 for value in (log.last, log.best)]
        how = (
            "ends at the reported score" if ends[0] else "has it in its best epoch, not the last" if ends[1] else "ends elsewhere"
        )
        found["log read"] = f"{how}: last {log.last:g}, best {log.best:g} at {log.best_at}"
        levels = [compare_levels(log, run.curve) for run in trained.runs]
        if levels and levels[0]:
            off = sorted({one.name for of_run in levels for one in of_run if not one.agrees})
            found["losses at the log's level"] = f"{', '.join(off)} at another level" if off else f"all {len(levels[0])} agree"
    if trained.scores:
        num = len(trained.scores)
        mean = f"{num} {'seed' if num == 1 else 'seeds'}, mean {fmean(trained.scores):.2f}"
        found["retrained"] = f"{mean}: {_judged(entry, trained)}"
    return found


def _judged(entry: RegistryEntry, trained: Trained) -> str:
    """Return the verdict on the score, by the leaderboard's rules; runs with other settings are not judged."""
    pair_name, method = entry.place
    if not entry.comparable or pair_name is None or method is None:
        return "with other settings, so not judged"
    pair, first = load_pair(pair_name), trained.runs[0]
    differing = run_differences(
        entry.settings, pair_name, pair, method, trained.runs, tier=first.tier, batch_size=first.batch_size
    )
    if differing:
        return f"not judged: {', '.join(differing)}"
    margin = margins().get((datasets()[pair.dataset].title, entry.metric))
    if margin is None:
        return "no margin is declared"
    found = inference.compare_mean(
        trained.scores, entry.value, half_digit=half_digit(entry.value), margin=margin.margin, planning_sd=margin.planning_sd
    )
    return found.verdict


def _where(file: Artefact, *, looks_for_files: bool) -> str:
    if looks_for_files and place_of(file).is_file():
        return f"here ({place_of(file).name})"
    return f"on {file.host}, by hand" if file.host else "to fetch"


def _confounds(
    entry: RegistryEntry, pair: Pair | None, registry: Iterable[RegistryEntry], record: evidence.ReleasedStudent | None
) -> Iterator[str]:
    """Yield the differences between a result and its baseline, or from its source, that are no part of the method."""
    if entry.what != "method":
        return
    yield from _of_the_student(entry)
    epochs = {one.settings.epochs or 0 for one in registry if one.what == "control" and one.pair and one.pair == entry.pair}
    if entry.settings.epochs and 0 < max(epochs, default=0) < entry.settings.epochs:
        yield f"longer schedule: {entry.settings.epochs} epochs, the baseline's {max(epochs)}"
    if (pair and pair.reported == "best") or (record and record.log and _best_only(entry, record.log)):
        yield "best epoch, not the last"
    yield from (f"{one.kind}: {one.why}" for one in entry.differs if one.kind in ("teacher", "world size", "not stated"))
    further = {
        f"gain: {entry.gain_differs}": entry.gain_differs,
        f"{entry.derived} worked out from the printed gain": entry.derived,
        "figure read second-hand": entry.read == "second-hand",
    }
    yield from (text for text, holds in further.items() if holds)


def _of_the_student(entry: RegistryEntry) -> Iterator[str]:
    settings, variant = entry.settings, entry.variant
    inherited = ", ".join(settings.inherits or []) or (variant.inherits if variant.inherits not in (None, "nothing") else None)
    if inherited:
        yield f"inherits {inherited} from the teacher"
    if variant.student:
        yield f"student: {variant.student}"
    changed = [f"{key.removeprefix('model.')} = {value}" for key, value in settings.config.items() if key.startswith("model.")]
    if changed:
        yield f"other modules than the baseline: {', '.join(changed)}"
    if variant.training:
        yield f"training: {variant.training}"


def _best_only(entry: RegistryEntry, log: evidence.ReadLog) -> bool:
    last, best = (reported_score(entry.id, entry.metric, entry.value, value).off for value in (log.last, log.best))
    return best == 0 < last


def _next_step(
    entry: RegistryEntry, name: str | None, student: ReleasedStudent | None, verdicts: dict[Rung, str], *, looks_for_files: bool
) -> str:
    """Return the cheapest thing that adds evidence, as a command where there is one."""
    pair, method = entry.place
    if pair is None or method is None:
        if entry.what == "teacher":
            return "none: teachers are evaluated before they teach"
        lacking = "pair" if pair is None else "method"
        file = student and (student.weights or student.log)
        return f"add the {lacking} (docs/adding-a-{lacking}.md)" + (f"; then {file.address} can be read" if file else "")
    if (reason := load_pair(pair).not_run) is not None:
        return f"none here: {reason}"
    opened = {"weights re-evaluated", "log read"} & {*verdicts}
    if student and name and "artefact known" in verdicts and not opened:
        wanted = [file for file in (student.weights, student.log) if file]
        by_hand = [file for file in wanted[:1] if file.host and not (looks_for_files and place_of(file).is_file())]
        first = "".join(
            f"download {file.address}{f' (code {file.code})' if file.code else ''} as {file.file}, then " for file in by_hand
        )
        return f"{first}./kd released {pair} {method} --only {name}"
    if "retrained" not in verdicts:
        why = f" ({student.nothing})" if student and student.nothing else ""
        return f"retrain{why}: ./kd estimate --tier {PAPER_SCALE} --pairs {pair} --methods {'' if method == 'none' else 'none '}{method}"
    return "more seeds, where the verdict is inconclusive"
