"""Model cards, as the Hugging Face hub reads them: what a trained student is and how good, beside its weights."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from reports.formats import wording
from reports.schemas.leaderboard import Leaderboard, Row, SeedResult, Table

_TASKS = {"detection": "object-detection", "instance": "image-segmentation", "segmentation": "image-segmentation"}


def model_card(board: Leaderboard, table: Table, row: Row, seed: SeedResult) -> str:
    """One student's card: a ``model-index`` block with all its figures on the test split, and a page of text."""
    from huggingface_hub import EvalResult, ModelCardData  # noqa: PLC0415 (half a second, and only the stage needs it)

    name = f"{table.pair}-{row.slug.replace('+', '-')}-seed{seed.seed}-{board.tier}"  # as the hub allows
    dataset = table.dataset if board.full_size else board.tier_title
    results = [
        EvalResult(
            task_type=_TASKS.get(table.task, table.task),
            dataset_type=table.dataset.lower() if board.full_size else "generated",
            dataset_name=dataset,
            dataset_split="test",
            metric_type=metric.replace(" ", "_"),
            metric_name=metric,
            metric_value=value,
        )
        for metric, value in seed.metrics.items()
        if value is not None
    ]
    tags = ["knowledge-distillation", *row.parts, *(["tuned"] if row.is_tuned else []), table.pair]
    data = ModelCardData(model_name=name, eval_results=results, tags=tags, library_name="mmengine")
    folder = Path(__file__).parents[1] / "templates"
    environment = Environment(loader=FileSystemLoader(folder), undefined=StrictUndefined, autoescape=False)  # noqa: S701 (Markdown)
    text = environment.get_template("card.md.j2").render(
        name=name, board=board, table=table, row=row, seed=seed, dataset=dataset, warning=wording.scale_warning(board), w=wording
    )
    return f"---\n{data.to_yaml()}\n---\n\n{text.rstrip()}\n"
