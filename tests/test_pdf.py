"""The leaderboard as a PDF, from records made up here; its pages are read back by a small reader of what typst writes."""

import json
import re
import zlib

import pytest
import typst

from reports.formats.pdf import prepare, write_pdf
from reports.schemas.leaderboard import (
    Curve,
    FigureRecord,
    Leaderboard,
    MissingRun,
    RecipeSummary,
    Row,
    SeedResult,
    Table,
    TeacherResult,
)
from reports.schemas.reported import ReportedComparison, ReportedResult
from reports.schemas.run import Cost, Git

COST = Cost(wall_s=120, train_s=90, images_per_s=30.4, num_images=100, peak_memory_mib=900, resumed_after_iteration=0)
CURVE = Curve(own_loss=[], val_score=[])
DIGEST = "0123456789abcdef" * 4
NASTY = r'#panic("x") *a* _b_ $c$ @d <e> \f [g] // h /* i */ `j` = k'
TEXT_WIDTH_PT = (210 - 2 * 18) / 25.4 * 72


def seed(number, score):
    """One training."""
    return SeedResult(
        seed=number, score=score, metrics={"AP": score, "APs": None}, per_class={}, curve=CURVE, cost=COST,
        git=Git(commit="c6ffd7b455", dirty=False), finished_at="2026-11-20T10:00:00+00:00", config_sha256=DIGEST,
        weights_sha256=DIGEST, run_sha256=DIGEST, metrics_sha256=DIGEST, mlflow_run_id="67f3e7af301e",
        target=f"distill@pair-mgd-{number}",
    )  # fmt: skip


def teacher():
    """A training of 1.5 minutes."""
    return TeacherResult(
        name="Teacher 2x", score=20.0, metrics={"AP": 20.0, "APs": None}, per_class={}, curve=CURVE, cost=COST, origin=None,
        weights_sha256=DIGEST, run_sha256=DIGEST, metrics_sha256=DIGEST, mlflow_run_id=None, target="teachers@pair",
    )  # fmt: skip


def mgd(**changes):
    """Two trainings, 3 points over the control."""
    found = {
        "method": "mgd", "title": "MGD", "parts": ["mgd"], "status": "done", "seeds": [seed(0, 13.0), seed(1, 15.0)], "num_seeds": 2,
        "mean": 14.0, "sd": 1.4, "gain": 3.0, "gain_low": -2.5, "gain_high": 8.5, "gain_p": 0.02, "gain_p_holm": 0.04,
        "gap_closed": 0.36, "minutes": 1.5, "auxiliary_minutes": 0.4, "hparams": {"alpha": 2e-5}, "hparams_origin": "published",
        "command": "dvc repro evaluate@pair-mgd-0",
    }  # fmt: skip
    return Row(**{**found, **changes})


def table(*rows, **changes):
    """A pair."""
    found = {
        "pair": "pair", "title": "A pair", "task": "detection", "metric": "box AP", "dataset": "COCO", "schedule": "1x",
        "teacher": teacher(), "reported_teacher": [], "rows": list(rows), "reported_elsewhere": {}, "notes": [],
    }  # fmt: skip
    return Table(**{**found, **changes})


def board(*tables, **changes):
    """A leaderboard at a small tier."""
    found = {
        "tier": "mini", "tier_title": "small scenes", "paper_scale": False, "tables": list(tables), "recipes": {}, "margins": [],
        "num_tests": 1, "environment": None, "data": {}, "commits": [], "dirty": False, "first_finished": None,
        "last_finished": None, "train_s": 300.0, "energy_kj": None, "problems": [],
    }  # fmt: skip
    return Leaderboard(**{**found, **changes})


def squeezed(words):
    """Without white space: lines break where the page ends them."""
    return re.sub(r"\s", "", words)


def pages(pdf):
    """The words on every page, without white space."""
    objects = {int(number): body for number, body in re.findall(rb"(?:^|\n)(\d+) 0 obj\n(.*?)\nendobj", pdf, re.DOTALL)}

    def referred(key, body):
        return objects[int(re.search(key + rb" (\d+) 0 R", body)[1])]

    def stream(body):
        return zlib.decompress(re.search(rb"stream\r?\n(.*)\r?\nendstream", body, re.DOTALL)[1])

    def text(page):
        fonts = {
            name: characters(stream(referred(rb"/ToUnicode", objects[int(number)])))
            for name, number in re.findall(
                rb"/(f\d+) (\d+) 0 R", referred(rb"/Resources", page) if b"/Resources " in page else page
            )
        }
        return squeezed("".join(shown(stream(referred(rb"/Contents", page)), fonts)))

    kids = re.search(rb"/Type/Pages/Count \d+/Kids\[([^\]]*)\]", pdf)[1]
    return [text(objects[int(number)]) for number in re.findall(rb"(\d+) 0 R", kids)]


def characters(cmap):
    """Glyph -> what it stands for."""
    pairs = re.findall(rb"<([0-9A-F]{4})> <([0-9A-F]+)>\n", cmap.partition(b"endcodespacerange")[2])
    return {int(glyph, 16): bytes.fromhex(text.decode()).decode("utf-16-be") for glyph, text in pairs}


def shown(content, fonts):
    """The words that a page's instructions show."""
    escapes = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"b": b"\b", b"f": b"\f"}

    def unescaped(found):
        return bytes([int(found[1], 8)]) if found[1].isdigit() else escapes.get(found[1], found[1])

    drawn = b"\n".join(re.findall(rb"\nBT (.*?)\nET", content, re.DOTALL))  # other strings are names of languages and the like
    inside = rb"(?:[^\\()]|\\.)*"
    for _ in range(5):  # brackets in a string that match need no escape
        inside = rb"(?:[^\\()]|\\.|\(" + inside + rb"\))*"
    for font, literal in re.findall(rb"/(f\d+) [\d.]+ Tf|\((" + inside + rb")\)", drawn, re.DOTALL):
        if font:
            current = fonts[font]
            continue
        glyphs = re.sub(rb"\\([0-7]{1,3}|.)", unescaped, literal, flags=re.DOTALL)
        yield "".join(current.get(int.from_bytes(glyphs[at : at + 2], "big"), "") for at in range(0, len(glyphs), 2))


def made(of, tmp_path, name="report.pdf"):
    """The bytes of the PDF."""
    write_pdf(of, tmp_path, tmp_path / name)
    return (tmp_path / name).read_bytes()


def svg(width, height):
    """A drawing of that size in points."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt" viewBox="0 0 {width} {height}">'
        f'<path d="M 0 0 L {width} {height}" stroke="black"/></svg>'
    )


def test_small_tier(tmp_path):
    """Tier, warning, figures, verdict, cost, provenance; the pages are numbered."""
    of = board(
        table(mgd(energy_kj=85.2)), energy_kj=36_000.0, commits=["c6ffd7b455b5"], problems=["runs/pair/run.json: mean: missing"]
    )
    pdf = made(of, tmp_path)
    found = pages(pdf)
    text = "".join(found)

    assert b"/Title(Do reported distillation gains reproduce? Tier mini)" in pdf
    assert b"/Author(The maintainers of kd-reproducibility)" in pdf
    assert "Tiermini" in found[0]
    assert "ThesearenotCOCOresultsandsaynothingaboutanyreportedone." in found[0]
    for words in (
        "14.0 ± 1.4", "+3.0[−2.5, +8.5]", "36 %", "significant gain", "p 0.02, after Holm 0.04", "1.5 + 0.4 85 kJ", "10.0 kWh",  # noqa: RUF001
        "Teacher 2x one run", "At reduced scale (small scenes), not on COCO:", "On A pair, no gain is known yet: the baseline has not finished.",
        "5 min in training iterations", "commit c6ffd7b455", "runs/pair/run.json: mean: missing",
    ):  # fmt: skip
        assert squeezed(words) in text, words
    for number, page in enumerate(found, 1):
        assert page.endswith(f"{number}of{len(found)}")
        assert number == 1 or "tiermini(smallscenes),reducedscale" in page


def test_full_size(tmp_path):
    """No warning; a sentence against every published figure, with its source as a link."""
    against = ReportedComparison(
        difference=0.03,
        low=-0.08,
        high=0.14,
        margin=0.3,
        verdict="inconclusive",
        further_seeds=2,
        p_equivalent=0.1,
        p_different=0.9,
        p_holm=0.3,
    )
    figure = ReportedResult(
        id="one", value=43.7, gain=3.5, teacher=44.9, source="owner/name README.md at 87e156a4", read="second-hand",
        variant={"teacher": "2x"}, score_verdict=against, gain_verdict=against.model_copy(update={"verdict": "reproduced"}),
    )  # fmt: skip
    of = board(table(mgd(reported=[figure])), tier="paper", tier_title="as published", paper_scale=True)
    pdf = made(of, tmp_path)
    text = "".join(pages(pdf))

    assert "Scale:" not in text
    assert "arenotCOCOresults" not in text
    for words in (
        "score 43.7 AP: inconclusive; ours differs by +0.03, 90 % interval −0.08 to +0.14, margin 0.3",  # noqa: RUF001
        "; 2 further seeds would decide it", "gain +3.5 AP: reproduced; ours", "margin 0.3, not after Holm's adjustment (p 0.30)",
        "43.7+3.544.9teacher 2xowner/name",
        "README.md at 87e156a4 (secondary source)",
    ):  # fmt: skip
        assert squeezed(words) in text, words
    assert b"/URI(https://github.com/owner/name/tree/87e156a4)" in pdf


def test_what_did_not_run(tmp_path):
    """Seeds of one reason stand together; an impossible row has its reason in the table and in the list."""
    missing = [
        MissingRun(seed=2, status="failed", reason="out of memory"),
        MissingRun(seed=0, status="not run"),
        MissingRun(seed=1, status="not run"),
    ]
    rows = [
        mgd(missing=missing),
        Row(method="crosskd", title="CrossKD", parts=["crosskd"], status="unsupported", reason="needs a dense head"),
    ]
    text = "".join(pages(made(board(table(*rows, teacher=None)), tmp_path)))

    assert "MGD,seeds0,1:notrun" in text
    assert "MGD,seed2:failed:outofmemory" in text
    assert text.count("unsupported:needsadensehead") == 2
    assert "teachernotrun" in text


@pytest.mark.parametrize("tables", [[], [table(teacher=None)], [table(mgd(status="not run", seeds=[], mean=None), teacher=None)]])
def test_nothing_has_run(tables, tmp_path):
    """Still a report."""
    assert "Environment" in "".join(pages(made(board(*tables), tmp_path)))


def test_words_are_never_markup(tmp_path):
    """Signs that mean something to typst come out as they are, wherever words come in."""
    figure = ReportedResult(
        id="x", value=1.0, gain=None, teacher=None, source=f"{NASTY} 6", read="verbatim", variant={"a": f"{NASTY} 7"}
    )
    rows = [
        mgd(title=f"{NASTY} 1", hparams={f"{NASTY} 2": 0}, command=f"{NASTY} 3", reported=[figure]),
        Row(method=NASTY, title="x", parts=[], status="failed", reason=f"{NASTY} 4"),
    ]
    of = board(
        table(*rows, title=f"{NASTY} 5", pair=f"{NASTY} 8", notes=[f"{NASTY} 9"]),
        tier="<tier>",
        tier_title="#tier",
        paper_scale=True,
        recipes={
            "x": RecipeSummary(title=f"{NASTY} 10", paper=f"{NASTY} 11", source=NASTY, notes=[], deviations=[f"{NASTY} 12"])
        },
        figures=[FigureRecord(name="p", title=f"{NASTY} 13", caption=f"{NASTY} 14", file="p.svg")],
    )
    (tmp_path / "p.svg").write_text(svg(10, 10))
    text = "".join(pages(made(of, tmp_path))).replace("`", "")

    assert "Tier<tier>:#tier" in text
    for number in (1, *range(4, 15)):
        assert squeezed(f"{NASTY} {number}").replace("`", "") in text, number


def test_long_tables_break_and_repeat_their_head(tmp_path):
    """Sixty rows: none is lost, and every page that has one has the head."""
    rows = [mgd(title=f"method<{number:02}>") for number in range(60)]
    found = pages(made(board(table(*rows, teacher=None)), tmp_path))
    main = [page for page in found if re.search(r"method<\d\d>significantgainp0\.02,afterHolm0\.0414\.0±1\.4", page)]

    assert len(main) > 1
    assert [int(number) for page in main for number in re.findall(r"method<(\d\d)>significantgain", page)] == list(range(60))
    assert all("methodverdictAP,mean±sd[nextrun]nrecognitiongain[95%]gapclosed[95%]" in page for page in main)


def test_same_bytes(tmp_path):
    """From two places."""
    of = board(table(mgd()), figures=[FigureRecord(name="p", title="FigureRecord", caption="Caption.", file="p.svg")])
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
        (folder / "p.svg").write_text(svg(300, 200))

    assert made(of, folders[0]) == made(of, folders[1], "other.pdf")


def test_pictures(tmp_path):
    """Numbered with their captions; drawings stay drawings; one that is not there is left out."""
    for name, size in {"wide": (2000, 100), "high": (100, 3000), "small": (90, 60)}.items():
        (tmp_path / f"{name}.svg").write_text(svg(*size))
    pictures = [
        FigureRecord(name=name, title=f"Title of {name}", caption=f"See `{name}`.", file=f"{name}.svg")
        for name in ("wide", "gone", "high", "small")
    ]
    of = board(table(mgd()), figures=pictures)
    pdf = made(of, tmp_path)
    text = "".join(pages(pdf))

    assert b"/Subtype/Image" not in pdf
    assert re.findall(r"Figure(\d):Titleof(\w+)\.See", text) == [("1", "wide"), ("2", "high"), ("3", "small")]
    assert "gone" not in text

    (tmp_path / "set").mkdir()
    document = prepare(of, tmp_path, tmp_path / "set")
    images = typst.query(document, "image", root=document.parent, ignore_system_fonts=True)
    widths = [float(image["width"].removeprefix("0% + ").removesuffix("pt")) for image in json.loads(images)]

    assert widths[0] == pytest.approx(TEXT_WIDTH_PT, abs=0.1)
    assert widths[1] * 30 < 297 / 25.4 * 72
    assert widths[2] == pytest.approx(90)


def test_papers_are_links(tmp_path):
    """An arXiv number leads to arXiv."""
    recipe = RecipeSummary(
        title="MGD", paper="Masked Generative Distillation, arXiv:2205.01529", source=None, notes=[], deviations=[]
    )
    pdf = made(board(recipes={"mgd": recipe}), tmp_path)

    assert b"/URI(https://arxiv.org/abs/2205.01529)" in pdf
