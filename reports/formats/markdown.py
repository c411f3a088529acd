"""The leaderboard as Markdown."""

from reports.formats import answers, headlines, studies, wording
from reports.formats.columns import columns_of, glossary, line_frame, methods_of, teacher_row
from reports.formats.markdown_text import Markdown, code, environment, escaped
from reports.formats.markdown_text import table as markdown_table
from reports.formats.printable import with_texts
from reports.formats.wording import short
from reports.schemas.leaderboard import Leaderboard, SeedResult, Table, TeacherResult
from reports.schemas.study import Study

MAIN_FIGURES = ("scores", "forest")  # the others are in the page and the PDF


def markdown(board: Leaderboard) -> str:
    """Render the whole report; the same leaderboard gives the same text."""
    board = with_texts(board)
    template = environment().get_template("leaderboard.md.j2")
    figures = [figure for figure in board.figures if figure.name in MAIN_FIGURES]
    text = template.render(
        board=board,
        w=wording,
        s=studies,
        figures=figures,
        results=results,
        by_seed=by_seed,
        searched=searched,
        conflicts=conflicts,
        h=headlines,
        sections=answers.sections(board),
        glossary=glossary(board, columns_of("markdown", board)),
        teacher_row=teacher_row,
    )
    return text.rstrip() + "\n"


def overview(board: Leaderboard) -> str:
    """Answers, and every pair's main table without costs under its title; README quotes it."""
    board = with_texts(board)
    said = "\n".join(f"- {escaped(headlines.headline(table, board))}" for table in board.tables)
    parts = [f"{escaped(headlines.scale(board))}\n\n{said}"]
    parts += [
        f"**{escaped(table.title)}**{_teacher(table)}\n\n{results(table, board, with_costs=False)}" for table in board.tables
    ]
    return "\n\n".join(parts)


def _teacher(table: Table) -> str:
    if table.teacher is None:
        return ""
    recognition = wording.recognition(teacher_row(table))
    return f" (teacher {table.teacher.score:.1f} {short(table.metric)}{': ' + recognition if recognition else ''})"


def results(table: Table, board: Leaderboard, *, with_costs: bool = True) -> Markdown:
    """Return the main table of a pair; costs differ from machine to machine."""
    columns = [column for column in columns_of("markdown", board) if with_costs or column.group != "cost"]
    cells = methods_of(line_frame(board, [table]))["text"][[column.key for column in columns]]
    return markdown_table([column.heading(short(table.metric)) for column in columns], cells.to_numpy().tolist())


def by_seed(table: Table) -> Markdown:
    """Table of every run of a pair, the teacher first."""
    runs: list[tuple[str, str, TeacherResult | SeedResult, str]] = [("teacher", "", table.teacher, "")] if table.teacher else []
    runs += [(row.title, str(seed.seed), seed, _commit(seed)) for row in table.rows for seed in row.seeds]
    names = list(dict.fromkeys(name for _, _, result, _ in runs for name in result.metrics))
    lines = [
        [
            title, seed, *(_number(result.metrics.get(name)) for name in names),
            f"{result.cost.images_per_s:.0f}" if result.cost else "", commit, code((result.mlflow_run_id or "none")[:8]),
        ]
        for title, seed, result, commit in runs
    ]  # fmt: skip
    return markdown_table(["method", "seed", *names, "images/s", "commit", "MLflow run"], lines)


def searched(study: Study) -> Markdown:
    """Search space of a study and its result, one line per hyper-parameter."""
    header = ["hyper-parameter", "search space", "recipe", "selected", "importance"]
    lines = [[code(one.name), one.space, one.recipe, one.best, one.importance or "unknown"] for one in studies.searched(study)]
    return markdown_table(header, lines)


def conflicts(table: Table) -> Markdown:
    """Table of the values that sources disagree on."""
    lines = [
        [
            one.what,
            wording.printed(one.value),
            "" if one.baseline is None else wording.printed(one.baseline),
            f"{one.source} ({one.note})" if one.note else one.source,
        ]
        for one in table.conflicts
    ]
    return markdown_table(["of", "reported", "over", "source"], lines)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _commit(result: SeedResult) -> Markdown:
    return Markdown(code((result.git.commit or "none")[:8]) + ("*" if result.git.dirty else ""))
