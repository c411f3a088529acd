"""Names, notes, views and addresses by which a person finds runs in MLflow's pages; imports no MLflow."""

import contextlib
import getpass
import json
from typing import Any
from urllib.parse import quote, urlencode

from pipelines import layout
from reports.schemas.run import Git

# MLflow's own tags: the pages show these as columns and fields.
PARENT = "mlflow.parentRunId"
RUN_NAME = "mlflow.runName"
NOTE = "mlflow.note.content"
COMMIT, DIRTY = "mlflow.source.git.commit", "mlflow.source.git.dirty"
ROW = "row"  # of the leaderboard: published and tuned values of a method are two

_VIEW = "mlflow.sharedViewState."
_PAGES = {"workflowType": "machine_learning"}  # without it MLflow opens its pages for language models, which list no runs
_OWN = "*(Written by the benchmark, and again after the next report; delete this line to keep your own text.)*"
_STAGES = {"pretrain": "pretrain", "teacher": "teachers", "masks": "masks", "distill": "distill", "tune": "tune"}


def run_name(path: str) -> str:
    """Name with what differs first, as lists cut off its end: ``distill/gfl_r101_r50/mgd/seed0`` is ``mgd s0 | gfl_r101_r50``.

    Args:
        path: stage and name of a run; another text is returned as it is.
    """
    match path.split("/"):
        case ["distill", _, *_]:
            cell = layout.Cell.parse(path.removeprefix("distill/"))
            first, of = f"{cell.method}{' tuned' if cell.tuned else ''} s{cell.seed}", cell.pair
        case ["teacher", of, _]:
            first = "teacher"
        case ["masks", of, method]:
            first = f"{method} auxiliary"
        case ["pretrain", _, of]:
            first = "backbone"
        case ["tune", of, method]:
            first = f"{method} study"
        case ["tune", of, method, trial]:
            first = f"{method} trial {trial.removeprefix('trial')}"
        case _:
            return path
    return f"{first} | {of}"


def source_tags(stage: str, git: Git | None) -> dict[str, str]:
    """Return MLflow's own tags on program, commit and user; a tag is missing where its value is unknown.

    Args:
        stage: as in records.
        git: state of the code; None where it is not recorded.
    """
    tags = {"mlflow.source.type": "LOCAL", "mlflow.source.name": f"pipelines/stages/{_STAGES[stage]}.py"}
    if git is not None and git.commit:
        tags |= {COMMIT: git.commit, DIRTY: str(git.dirty).lower()}
    with contextlib.suppress(OSError, KeyError, ImportError):  # a container's user may have no name
        tags["mlflow.user"] = getpass.getuser()
    return tags


def built_on(tier: str, pair: str, method: str | None, stage: str = "distill") -> dict[str, str]:
    """Return the MLflow runs of a run's ``teacher`` and ``auxiliary`` module, as far as their records name them.

    Args:
        tier: name.
        pair: name.
        method: name.
        stage: of the run: a teacher is built on neither, an auxiliary module on the teacher alone.
    """
    if stage not in ("masks", "distill", "tune"):
        return {}
    folders = {"teacher": layout.teacher(tier, pair)}
    folders |= {"auxiliary": layout.auxiliary(tier, pair, method)} if method and stage != "masks" else {}
    found = {}
    for name, folder in folders.items():
        try:
            found[name] = json.loads((folder / layout.RUN).read_text()).get("mlflow_run_id")
        except (OSError, ValueError):  # a convenience: it stops no run
            continue
    return {name: run_id for name, run_id in found.items() if run_id}


def run_link(experiment_id: str, run_id: str) -> str:
    """Address of a run's page, from the server's root."""
    return f"#/experiments/{quote(experiment_id)}/runs/{quote(run_id)}?{urlencode(_PAGES)}"


def pair_link(experiment_id: str, pair: str) -> str:
    """Address of a pair's list of students, from the server's root; its view is :func:`pair_view`.

    MLflow reads columns and grouping from a view alone, and no view where the address has a filter: so it has none.
    """
    return f"#/experiments/{quote(experiment_id)}/runs?{urlencode(_PAGES | {'viewStateShareKey': pair})}"


def view_tag(pair: str) -> str:
    """Tag of an experiment that has a pair's view."""
    return f"{_VIEW}{pair}"


def pair_view(pair: str, metric: str) -> str:
    """View of a pair's list: its students grouped by row, the highest mean first.

    Args:
        pair: name.
        metric: name of the score, such as ``AP``.
    """
    score = f"metrics.`test/{metric}`"
    columns = [score, "metrics.`gain`", "metrics.`wall_s`"]
    view: dict[str, Any] = {
        "searchFilter": f"params.stage = 'distill' AND params.pair = '{pair}'",
        "orderByKey": score, "orderByAsc": False, "startTime": "ALL", "lifecycleFilter": "Active", "datasetsFilter": [],
        "modelVersionFilter": "All Runs", "selectedColumns": columns,
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "tag", "groupByData": ROW}]},
    }  # fmt: skip
    return json.dumps(view)


def note(what: str, lines: list[str], links: dict[str, str]) -> str:
    """Markdown of a run's note.

    Args:
        what: first line.
        lines: results, a paragraph each.
        links: address by text.
    """
    linked = " - ".join(f"[{text}]({address})" for text, address in links.items())
    return "\n\n".join([what, *lines, *([linked] if linked else []), _OWN])


def is_own(text: str | None) -> bool:
    """Return whether a note may be replaced: there is none, or a person has not taken it over."""
    return not text or _OWN in text
