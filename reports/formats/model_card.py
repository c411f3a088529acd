"""Model cards of trained students, as the Hugging Face hub reads them, beside the weights."""

from reports.formats import wording
from reports.formats.markdown_text import environment
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table

_TASKS = {"detection": "object-detection", "instance": "image-segmentation", "segmentation": "image-segmentation"}


def model_card(board: Leaderboard, table: Table, row: Row, seed: SeedResult) -> str:
    """One student's card: a ``model-index`` block with all its results on the test split, and a page of text."""
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
    tags = ["knowledge-distillation", *row.parts, *(["tuned"] if row.tuned else []), table.pair]
    data = ModelCardData(model_name=name, eval_results=results, tags=tags, library_name="mmengine")
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
            warning=wording.scale_warning(board),
            w=wording,
        )
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text.rstrip()}\n"
