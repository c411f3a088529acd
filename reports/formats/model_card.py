"""Model cards of trained students, as the Hugging Face hub reads them, beside the weights."""

from dataclasses import dataclass
from typing import Literal

from reports.formats import wording
from reports.formats.markdown_text import environment
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table

_TASKS = {"detection": "object-detection", "instance": "image-segmentation", "segmentation": "image-segmentation"}
_NUM_WEAKEST = 3
# By kind of data; the hub has identifiers of licences.
_LICENCES = {"scenes": "apache-2.0", "own": "other", "published": "other"}
_TERMS = {
    "scenes": (
        "Apache-2.0, as this project's code. Training images are drawn from scikit-learn's scans of digits (UCI, optical recognition "
        "of handwritten digits) and its two sample photographs (danielbuechele, vultilion; CC BY 2.0)."
    ),
    "own": "the terms of the data and of the weights that it started from; this project's code is Apache-2.0.",
    "published": "the terms of {dataset} and of the weights that student and teacher started from; this project's code is Apache-2.0.",
}


@dataclass(frozen=True)
class Origin:
    """Facts about a student that the leaderboard does not have.

    Args:
        model: name of the published student.
        config: its published config, by package.
        start: weights that its training started from, in words.
        data: kind of the training data.
    """

    model: str
    config: str
    start: str
    data: Literal["scenes", "own", "published"]


def model_card(
    board: Leaderboard, table: Table, row: Row, seed: SeedResult, origin: Origin | None = None, picture: str | None = None
) -> str:
    """One student's card: a block for the hub with all its results on the test split, and a page of text.

    Args:
        board: the leaderboard.
        table: of the pair.
        row: of the method.
        seed: the student's run.
        origin: None where it is not known; the card then has no licence and no base model.
        picture: file beside the card with predictions; None where there is none.
    """
    from huggingface_hub import EvalResult, ModelCardData  # noqa: PLC0415 (half a second, and only the stage needs it)

    name = f"{table.pair}-{row.slug.replace('+', '-')}-seed{seed.seed}-{board.tier}"  # as the hub allows
    dataset = table.dataset if board.paper_scale else board.tier_title
    results = [
        EvalResult(
            task_type=_TASKS.get(table.task, table.task),
            dataset_type=table.dataset.lower() if board.paper_scale else "generated",
            dataset_name=dataset,
            dataset_split="test",
            metric_type=metric.replace(" ", "_"),
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in seed.metrics.items()
        if value is not None
    ]
    data = ModelCardData(
        model_name=name,
        eval_results=results,
        tags=["knowledge-distillation", *row.parts, *(["tuned"] if row.tuned else []), table.pair],
        library_name="mmengine",
        license=_LICENCES[origin.data] if origin else None,
        # Identifiers of the hub: generated data and a user's own are not there, nor are the models that a student starts from.
        datasets=[table.dataset.lower()] if board.paper_scale else None,
        metrics=[table.metric.replace(" ", "_")],
        pipeline_tag=_TASKS.get(table.task),
    )
    text = (
        environment()
        .get_template("card.md.j2")
        .render(
            name=name,
            board=board,
            table=table,
            row=row,
            seed=seed,
            dataset=dataset,
            origin=origin,
            terms=_TERMS[origin.data].format(dataset=table.dataset) if origin else "",
            picture=picture,
            weakest=_weakest(seed),
            w=wording,
        )
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text.rstrip()}\n"


def _weakest(seed: SeedResult) -> list[tuple[str, float]]:
    """Classes with the lowest scores, the lowest first; none of few classes."""
    known = sorted(((score, name) for name, score in seed.per_class.items() if score is not None))
    return [(name, score) for score, name in known[:_NUM_WEAKEST]] if len(known) > _NUM_WEAKEST else []
