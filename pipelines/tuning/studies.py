"""Studies of a tier, copied for Optuna's pages: whatever is done there, a study that is under way stays as it is."""

import sys
import warnings
from pathlib import Path

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.storages import InMemoryStorage

from pipelines import layout
from pipelines.params import load_pair
from pipelines.tuning.journal import storage_at


def objective_names(pair: str, number: int) -> list[str]:
    """Return what a study's objectives are called: the first is the pair's metric, a second the time of training."""
    return [f"{load_pair(pair).metric} on the validation split", "training time (s)"][:number]


def name_objectives(study: optuna.Study, pair: str) -> None:
    """Name a study's objectives in its storage, unless they have names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if study.metric_names is None:
            study.set_metric_names(objective_names(pair, len(study.directions)))


def copied_studies(tier: str) -> InMemoryStorage:
    """Return a copy of a tier's studies, each named by pair, method and folder; one that cannot be read is a warning.

    Raises:
        ValueError: there is none.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    copies, folders = InMemoryStorage(), sorted(path.parent for path in layout.work(tier).glob("*/*/tuning/*/journal.log"))
    for folder in folders:
        try:
            _copy(folder, copies)
        except ValueError as error:
            print(f"warning: {error}", file=sys.stderr)
    if not copies.get_all_studies():
        raise ValueError(
            f"no study is in {layout.work(tier)}/PAIR/METHOD/tuning; './kd run' makes them where params.yaml has 'tuning:'"
        )
    return copies


def _copy(folder: Path, copies: InMemoryStorage) -> None:
    pair, method = folder.parts[-4], folder.parts[-3]
    storage = storage_at(folder)
    for name in optuna.get_all_study_names(storage):
        title = f"{pair}/{method}/{folder.name}"
        optuna.copy_study(from_study_name=name, from_storage=storage, to_storage=copies, to_study_name=title)
        name_objectives(optuna.load_study(study_name=title, storage=copies), pair)
