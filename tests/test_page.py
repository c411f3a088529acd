"""The page to explore: what it holds, that it asks nothing of a network, and how it behaves in a browser."""

import base64
import csv
import re
from html.parser import HTMLParser
from io import BytesIO
from urllib.parse import unquote, urlsplit

import pytest
from PIL import Image

from reports.formats.html import _labels, page
from reports.formats.html_curves import panels, ticks
from reports.schemas.leaderboard import (
    Conflict,
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
from reports.schemas.reported import Margin, ReportedComparison, ReportedResult
from reports.schemas.run import Cost, Environment, Git

pytestmark = pytest.mark.slow

NASTY = """<img src=x onerror="window.taken = 1">'"&</script>"""
VOID = {"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
COST = Cost(wall_s=120, train_s=90, images_per_s=30.4, num_images=100, peak_memory_mib=900.2, resumed_after_iteration=0)
CURVE = Curve(own_loss=[(100, 2.0), (200, 1.0)], val_score=[(200, 5.0)])
DIGESTS = {"weights_sha256": "a" * 64, "run_sha256": "b" * 64, "metrics_sha256": "c" * 64}


class Tree(HTMLParser):
    """Elements with their attributes, the text, and the text of each line of the main table by column."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.text, self.lines, self.cell = [], [], "", [], None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        """Count it, and open it."""
        attributes = dict(attrs)
        self.elements.append((tag, attributes))
        if tag not in VOID:
            self.open.append(tag)
        if attributes.get("class") == "line":
            self.lines.append({})
        if "data-c" in attributes and tag in {"td", "th"} and self.lines:
            self.cell = attributes["data-c"]
            self.lines[-1][self.cell] = ""

    def handle_startendtag(self, tag, attrs):
        """A line of a diagram: nothing inside."""
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        """Check that the tag that closes is the one opened last."""
        assert self.open.pop() == tag
        if tag in {"dt", "td", "th"}:
            self.cell = None
            self.text += " "

    def handle_data(self, data):
        """Text of the page, and of a cell."""
        if self.open and self.open[-1] not in {"style", "script"}:
            self.text += data
        if self.cell:
            self.lines[-1][self.cell] += data


def seed(number, score):
    """One training."""
    return SeedResult(
        seed=number, score=score, metrics={"AP": score, "APs": None}, per_class={"cat": score}, curve=CURVE, cost=COST,
        git=Git(commit="0123456789abcdef", dirty=False), finished_at="2026-01-02T03:04:05+00:00", config_sha256="d" * 64,
        mlflow_run_id=f"run{number}", target=f"distill@pair-mgd-{number}", **DIGESTS,
    )  # fmt: skip


def row(method, title, mean, **others):
    """Two seeds around a mean."""
    return Row(
        method=method, title=title, parts=method.split("+"), status="done", seeds=[seed(0, mean - 1), seed(1, mean + 1)],
        num_seeds=2, mean=mean, sd=1.4, minutes=1.5, peak_memory_mib=900.2, images_per_s=30.4,
        command=f"dvc repro evaluate@pair-{method}-0", **others,
    )  # fmt: skip


def pair(name, title, **others):
    """A control of 11, CrossKD of 14, PKD of 9, both together of 16, and two that did not run; the teacher has 20."""
    figures = [ReportedResult(id="one", value=41.0, gain=2.6, teacher=43.0, source="a paper", read="verbatim", **others)]
    rows = [
        row("none", "none (control)", 11.0),
        row(
            "crosskd",
            "CrossKD",
            14.0,
            gain=3.0,
            gain_low=1.0,
            gain_high=5.0,
            gain_p=0.01,
            gain_p_holm=0.02,
            reported=figures,
            found=97.2,
            right=64.9,
        ),
        row("pkd", "PKD", 9.0, gain=-2.0, gain_low=-12.5, gain_high=8.5, gain_p=0.4, gain_p_holm=0.4),
        row(
            "crosskd+pkd",
            "CrossKD + PKD",
            16.0,
            gain=5.0,
            gap_closed=0.25,
            gap_low=0.2,
            gap_high=0.3,
            untested="one seed",
            hparams={NASTY: NASTY},
        ),
        Row(
            method="mgd", title="MGD", parts=["mgd"], status="failed", missing=[MissingRun(seed=0, status="failed", reason=NASTY)]
        ),
        Row(method="cwd", title=NASTY, parts=["cwd"], status="unsupported", reason="needs what is not there"),
    ]
    teacher = TeacherResult(
        name="R101", score=20.0, metrics={"AP": 20.0, "objects found": 99.0, "right class": 76.7}, per_class={}, curve=CURVE, cost=COST, origin=None, mlflow_run_id=None,
        target="teachers@pair", **DIGESTS,
    )  # fmt: skip
    return Table(
        pair=name, title=title, task="detection", metric="box AP", dataset="COCO", schedule="1x", teacher=teacher, rows=rows,
        reported_teacher=[], reported_elsewhere={"ld": [figures[0]]}, notes=[f"a note, {NASTY}"],
    )  # fmt: skip


def made_up(tier="mini", *, paper_scale=False, device="GPU", **others):
    """Two pairs, one with a title that would be an element."""
    verdict = ReportedComparison(
        difference=-0.2, low=-0.3, high=-0.1, margin=0.3, verdict="not reproduced", further_seeds=None,
        p_equivalent=0.5, p_different=0.01, p_holm=0.04,
    )  # fmt: skip
    against = {"gain_verdict": verdict} if paper_scale else {}
    return Leaderboard(
        tier=tier, tier_title="small", paper_scale=paper_scale, tables=[pair("one", NASTY, **against), pair("two", "Second", **against)],
        recipes={
            "crosskd": RecipeSummary(
                title="CrossKD", paper="A paper", arxiv="2306.11369", source="code", source_url="https://github.com/a/b/tree/c0ffee",
                file="methods/crosskd.yaml", notes=["one"], deviations=["two"],
            ),
        },
        margins=[Margin(dataset="COCO", metric="box AP", margin=0.3, planning_sd=0.1, why="small")], num_tests=4,
        environment=Environment(python="3.11", platform="Linux", device=device, num_cpus=2, threads=1, packages={}, mmlab={}),
        data={"scenes": "e" * 64}, commits=["0123456789abcdef"], dirty=False, first_finished="2026-01-02T03:04:05+00:00",
        last_finished="2026-01-02T05:04:05+00:00", train_s=600, energy_kj=None, problems=["run.json: broken"], **others,
    )  # fmt: skip


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    """The page of one leaderboard with one picture."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="2000" height="20"/>')
    return page([made_up(figures=[FigureRecord(name="a", title="Wide", caption="It is wide.", file="a.svg")])], folder)


def test_nothing_outside_is_asked_for(text):
    """Links apart, nothing is named that a browser would fetch; every element is closed."""
    tree = Tree(text)
    fetched = [
        (tag, name, value)
        for tag, attributes in tree.elements
        for name, value in attributes.items()
        if name in {"src", "srcset", "href", "action", "data", "poster"} and not value.startswith(("data:", "#"))
    ]
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]

    assert not tree.open
    assert {(tag, name) for tag, name, _ in fetched} == {("a", "href")}
    assert {urlsplit(value).netloc for *_, value in fetched} == {"127.0.0.1:5000", "arxiv.org", "github.com"}
    assert "url(" not in style
    assert "@import" not in style
    assert ("html", {"lang": "en"}) in tree.elements


def test_every_row_with_its_figures(text):
    """A teacher and six methods a pair, from the highest gain to the lowest; scores are not quoted at reduced scale."""
    lines = Tree(text).lines
    names = (
        "verdict", "score", "num_seeds", "recognition", "gain", "gain_interval", "gap_closed", "reported_gain", "minutes", "peak_memory_mib",
        "images_per_s",
    )  # fmt: skip

    assert len(lines) == 14
    assert [line["method"].strip() for line in lines[7:]] == [
        "Teacher R101", "none (control)", "CrossKD + PKD highest gain", "CrossKD", "PKD", "MGD", NASTY,
    ]  # fmt: skip
    assert [lines[3][name].strip() for name in names] == [
        "significant gain", "14.0 ± 1.4", "2", "97 % found, 65 % right", "+3.0", "[+1.0, +5.0]", "", "+2.6", "1.5", "900", "30",
    ]  # fmt: skip
    assert [lines[0][name].strip() for name in names] == [
        "teacher", "20.0", "1", "99 % found, 77 % right", "", "", "", "", "1.5", "900", "30",
    ]  # fmt: skip
    assert (lines[2]["gap_closed"], lines[2]["gap_interval"]) == ("25 %", "[20, 30]")
    assert [line["verdict"].strip() for line in lines[:7]] == [
        "teacher", "baseline", "inconclusive: one seed", "significant gain", "not significant", "failed", "unsupported",
    ]  # fmt: skip
    assert "reported" not in lines[0]
    assert "rung" not in lines[0]


def test_the_clock_of_a_cpu_is_no_cost(tmp_path):
    """Memory, speed and multiples of time are shown for GPUs alone."""
    on_cpu = page([made_up(device="CPU x86_64")], tmp_path)

    assert not {"peak_memory_mib", "images_per_s"} & set(Tree(on_cpu).lines[0])
    assert "multiple of the baseline's" not in on_cpu
    assert "multiple of the baseline's" in page([made_up()], tmp_path)


def test_links(tmp_path):
    """To paper, its BibTeX, the source at its commit; to files where the project is known."""
    board = made_up()

    def addresses(root):
        return {attributes["href"] for tag, attributes in Tree(page([board], tmp_path, root)).elements if tag == "a"}

    outside = {"https://arxiv.org/abs/2306.11369", "https://arxiv.org/bibtex/2306.11369", "https://github.com/a/b/tree/c0ffee"}
    inside = {
        "../../methods/crosskd.yaml",
        "../../benchmarks/pairs/two.yaml",
        "../../runs/mini/two/crosskd/",
        "../../runs/mini/two/teacher/",
    }

    assert outside <= addresses(None)
    assert outside | inside <= addresses("../..")
    assert not any(address.startswith("..") for address in addresses(None))


def test_sources_that_disagree_are_a_table(tmp_path):
    """One line per value."""
    values = [
        Conflict(what="PKD", value=40.8, baseline=38.4, source="a table", note="in print"),
        Conflict(what="PKD", value=40.3, baseline=None, source="a readme"),
    ]
    board = made_up()
    tables = [board.tables[0].model_copy(update={"conflicts": values})]
    said = " ".join(Tree(page([board.model_copy(update={"tables": tables})], tmp_path)).text.split())

    assert "PKD 40.8 38.4 a table (in print) PKD 40.3 a readme" in said


def test_words_of_records_stay_words(text):
    """A title, a note, a setting and a reason that would be elements are none."""
    tree = Tree(text)
    images = [attributes for tag, attributes in tree.elements if tag == "img"]

    assert [image["alt"] for image in images] == ["Wide"]
    assert not any(name.startswith("on") for _, attributes in tree.elements for name in attributes)
    assert tree.text.count(NASTY) > 10
    assert sum(tag == "script" for tag, _ in tree.elements) == 2


def test_what_else_it_says(text):
    """Tier, scale, times, problems, what did not run, and where a training comes from."""
    tree = Tree(text)
    said = " ".join(tree.text.split())

    assert "Tier mini: small" in said
    assert "At reduced scale (small), not on COCO:" in said
    assert (
        "On Second, CrossKD + PKD gains +5.0 AP and closes 25 % [20, 30] of the gap to the teacher, the most of 3 methods" in said
    )
    assert "These are not COCO results" in said
    assert "16 of 18 students, 2 of 2 teachers" in said
    assert "2026-01-02 03:04 UTC to 2026-01-02 05:04 UTC" in said
    assert "10 min, all runs together" in said
    assert "Rows by verdict: inconclusive: one seed 2; significant gain 2; not significant 2; failed 2; unsupported 2" in said
    assert "Energy not measured" in said
    assert "run.json: broken" in said
    assert "dvc repro evaluate@pair-crosskd-0" in said
    assert "p 0.01, after Holm 0.02" in said
    assert f"Second MGD 0 failed {NASTY}" in said
    assert "unsupported needs what is not there" in said
    assert ("code", {"title": "b" * 64}) in tree.elements
    assert ("a", {"href": "http://127.0.0.1:5000/#/experiments/1/runs/run1?workflowType=machine_learning"}) in tree.elements


def test_full_size_gives_a_verdict_against_each_source(tmp_path):
    """As the words of the report have it; no warning of a scale."""
    tree = Tree(page([made_up("paper", paper_scale=True)], tmp_path))

    assert tree.lines[3]["verdict"].strip() == "not reproduced"
    assert tree.lines[3]["reported"].strip() == "41.0"
    assert "gain +2.6 AP: not reproduced; ours differs by -0.20, 90 % interval -0.30 to -0.10, margin 0.3" in tree.text
    assert "Scale:" not in tree.text


def test_same_input_same_bytes(text, tmp_path):
    """Made again, from records read anew."""
    board = made_up()
    again = Leaderboard.model_validate_json(board.model_dump_json())

    assert page([board], tmp_path) == page([again], tmp_path)


def test_pictures_are_inside(tmp_path):
    """SVG as it is, PNG as WebP; one that is not there and one of another kind are excluded."""
    buffer = BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, "PNG")
    contents = {"a.svg": b'<svg id="a\'s" x="#1"/>', "b.png": buffer.getvalue(), "c.html": b"<p>"}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    pictures = [FigureRecord(name=name, title=name, caption="It.", file=name) for name in (*contents, "d.svg")]
    tree = Tree(page([made_up(figures=pictures)], tmp_path))

    svg, webp = [attributes["src"] for tag, attributes in tree.elements if tag == "img"]

    assert unquote(svg) == "data:image/svg+xml,<svg id=\"a's\" x='#1'/>"
    assert '"' not in svg
    assert base64.b64decode(webp.removeprefix("data:image/webp;base64,")).startswith(b"RIFF")


def test_a_further_leaderboard_joins(tmp_path):
    """Its rows follow, named by tier; no identity is given twice."""
    tree = Tree(page([made_up(), made_up("paper", paper_scale=True)], tmp_path))
    ids = [attributes["id"] for _, attributes in tree.elements if "id" in attributes]

    assert [line["tier"] for line in tree.lines] == ["mini"] * 14 + ["paper"] * 14
    assert len(ids) == len(set(ids))


def test_leaderboards_are_told_apart():
    """By tier, by device where they share it, by a number where they share both."""
    boards = [made_up(device="CPU"), made_up(), made_up(device="CPU"), made_up("paper")]

    assert _labels(boards) == ["mini, CPU", "mini, GPU", "mini, CPU (2)", "paper"]


def test_nothing_has_run(tmp_path):
    """A table of what is asked for, and no empty diagram."""
    table = pair("one", "First").model_copy(
        update={"teacher": None, "rows": [Row(method="none", title="none", parts=[], status="not run")]}
    )
    empty = made_up().model_copy(update={"tables": [table], "environment": None, "recipes": {}, "first_finished": None})
    tree = Tree(page([empty], tmp_path))

    assert [line["verdict"].strip() for line in tree.lines] == ["not run", "not run"]
    assert not [tag for tag, _ in tree.elements if tag in {"svg", "img"}]


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [(0, 750, [0, 200, 400, 600, 800]), (0.21, 0.275, [0.2, 0.22, 0.24, 0.26, 0.28]), (5, 5, [4, 6]), (0, 0, [0, 0.5])],
)
def test_ticks_are_round_and_enclose(low, high, expected):
    """By hand."""
    assert expected == ticks(low, high)


def test_a_diagram_by_hand():
    """Loss from 2 to 1 over 400 iterations: from the top left to the bottom right of the plotted area."""
    curve = Curve(own_loss=[(0, 2.0), (400, 1.0)], val_score=[])
    (panel,) = panels([curve], [curve], pair("one", "First"))

    assert panel.title == "own loss"
    assert panel.series == [("baseline", [(44, 28), (324, 150)]), ("own", [(44, 28), (324, 150)])]
    assert panel.x_ticks == [(44, "0"), (114, "100"), (184, "200"), (254, "300"), (324, "400")]
    assert (panel.y_ticks[0], panel.y_ticks[-1]) == ((150, "1"), (28, "2"))


def test_a_long_curve_is_thinned():
    """At most every ninth of 1000 points, and the last."""
    curve = Curve(own_loss=[(iteration, 1.0) for iteration in range(1000)], val_score=[])
    (panel,) = panels([curve], [], pair("one", "First"))

    assert len(panel.series[0][1]) == 112
    assert panel.series[0][1][-1][0] == pytest.approx(44 + 280 * 999 / 1000, abs=0.1)


@pytest.fixture
def visit(browser, text, tmp_path):
    """Opens the page in a context of its own; what it asked for and complained of is checked at the end."""
    path = tmp_path / "leaderboard.html"
    path.write_text(text)
    contexts, said, asked = [], [], []

    def opened(fragment="", **options):
        context = browser.new_context(**options)
        contexts.append(context)
        tab = context.new_page()
        tab.on("console", lambda message: said.append(message.text))
        tab.on("pageerror", lambda error: said.append(str(error)))
        tab.on("request", lambda request: asked.append(request.url.partition("#")[0]))
        tab.goto(path.as_uri() + fragment)
        return tab

    yield opened
    taken = [tab.evaluate("window.taken") for context in contexts for tab in context.pages]
    for context in contexts:
        context.close()

    assert not said
    assert {url for url in asked if not url.startswith("data:")} == {path.as_uri()}
    assert taken == [None] * len(contexts)


def shown(tab, column):
    """Texts of one column, of the lines that can be seen."""
    script = "cells => cells.filter(cell => cell.checkVisibility()).map(cell => cell.innerText.replace(/\\s+/g, ' '))"
    return tab.locator(f'.line > [data-c="{column}"]').evaluate_all(script)


def test_sorts(visit):
    """Figures from the highest, then from the lowest, then as they were; what is not known comes last."""
    tab = visit("#pair=two")
    head = tab.get_by_role("columnheader", name="Score,")
    before = shown(tab, "score")
    head.get_by_role("button").click()

    assert before == ["20.0", "11.0 ± 1.4", "16.0 ± 1.4", "14.0 ± 1.4", "9.0 ± 1.4", "", ""]
    assert [figure.split(".")[0] for figure in shown(tab, "score")] == ["20", "16", "14", "11", "9", "", ""]
    assert head.get_attribute("aria-sort") == "descending"

    head.get_by_role("button").click()

    assert [figure.split(".")[0] for figure in shown(tab, "score")] == ["9", "11", "14", "16", "20", "", ""]
    assert head.get_attribute("aria-sort") == "ascending"

    head.get_by_role("button").click()

    assert shown(tab, "score") == before
    assert head.get_attribute("aria-sort") is None


def test_sorts_inside_each_pair(visit):
    """A pair stays below its heading."""
    tab = visit("#sort=-score")
    titles = tab.locator("#results > tbody").evaluate_all("all => all.map(one => one.dataset.key || one.dataset.group)")

    assert [title for title in titles if title in {"one", "two"}] == ["one", "two"]
    assert all(title.startswith("one") for title in titles[:8])
    assert titles[8:11] == ["two", "two-teacher", "two-crosskd+pkd"]


def choose(tab, *methods):
    """Tick methods in their list."""
    tab.locator("#methods > summary").click()
    for method in methods:
        tab.locator("#methods").get_by_label(method, exact=True).check()


def test_filters_and_the_address_keeps_it(visit):
    """A method is found in what it is combined with; the same address shows the same, charts too; reset shows all."""
    tab = visit()
    tab.get_by_role("combobox", name="Pair").select_option("two")
    choose(tab, "CrossKD")

    assert shown(tab, "method") == ["CrossKD + PKD highest gain", "CrossKD"]
    assert tab.locator("#count").inner_text() == "2 of 14 rows"
    assert tab.locator("#chosen").inner_text().startswith("1 of ")

    again = visit(tab.evaluate("location.hash"))

    assert shown(again, "method") == ["CrossKD + PKD highest gain", "CrossKD"]
    assert again.locator(".gain .name a").filter(visible=True).all_inner_texts() == ["CrossKD + PKD", "CrossKD"]
    assert again.locator(".group").filter(visible=True).count() == 1

    choose(again, "pkd")

    assert shown(again, "method") == ["CrossKD + PKD highest gain", "CrossKD", "PKD"]

    again.get_by_role("combobox", name="Verdict").select_option("baseline")

    assert shown(again, "method") == []
    assert "No row fits" in again.locator("#count").inner_text()

    again.get_by_role("button", name="Reset").click()

    assert len(shown(again, "method")) == 14


def test_searches(visit):
    """Every word, in title, pair or verdict, whatever its case."""
    tab = visit()
    tab.get_by_role("searchbox", name="Search").fill("SECOND pk")

    assert shown(tab, "method") == ["CrossKD + PKD highest gain", "PKD"]
    assert shown(visit(tab.evaluate("location.hash")), "method") == ["CrossKD + PKD highest gain", "PKD"]


def test_hides_tuned_rows(browser, tmp_path):
    """And shows them again."""
    board = made_up()
    rows = [*board.tables[1].rows, row("pkd", "PKD, tuned", 9.5, tuned=True, gain=-1.5)]
    path = tmp_path / "tuned.html"
    path.write_text(page([board.model_copy(update={"tables": [board.tables[1].model_copy(update={"rows": rows})]})], tmp_path))
    tab = browser.new_page()
    tab.goto(path.as_uri())
    tab.get_by_label("Hide tuned").check()

    assert "PKD, tuned" not in shown(tab, "method")
    assert "untuned=1" in tab.evaluate("location.hash")

    tab.get_by_label("Hide tuned").uncheck()

    assert "PKD, tuned" in shown(tab, "method")
    tab.close()


def test_downloads_what_is_shown(visit, tmp_path):
    """Rows and columns as they are on the page, as CSV."""
    tab = visit("#pair=two&method=pkd&hide=minutes")
    with tab.expect_download() as started:
        tab.get_by_role("button", name="Download CSV").click()
    started.value.save_as(tmp_path / "shown.csv")
    head, *lines = csv.reader((tmp_path / "shown.csv").read_text("utf-8-sig").splitlines())

    assert head[:6] == ["pair", "method", "verdict", "score", "num_seeds", "recognition"]
    assert "minutes" not in head
    assert [line[:2] for line in lines] == [["Second", "CrossKD + PKD"], ["Second", "PKD"]]
    assert lines[1][head.index("gain")] == "-2.0"


def test_a_gain_opens_its_row(visit):
    """The link of the chart."""
    tab = visit()
    tab.locator('[data-for="two-pkd"] a').first.click()

    assert tab.locator("#row-two-pkd.open").count() == 1
    assert tab.locator("#more-two-pkd").get_by_role("heading", name="Results on the test split").is_visible()


def test_gains_are_where_they_belong(text):
    """The axis goes from -20 to 10 points: -12.5, the lowest end of an interval, and 8.5, the highest, are inside it."""
    positions = re.findall(
        r'data-for="two-crosskd">.*?class="interval *" style="left:([\d.]+)%;width:([\d.]+)%".*?<b [^>]*left:([\d.]+)%',
        text,
        re.DOTALL,
    )
    (left, width, at) = map(float, positions[0])

    assert left == pytest.approx(100 * (1 + 20) / 30, abs=0.01)
    assert width == pytest.approx(100 * 4 / 30, abs=0.01)
    assert at == pytest.approx(100 * (3 + 20) / 30, abs=0.01)


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("address", ["", "#open=two-crosskd,two-teacher"])
def test_axe_finds_nothing(visit, theme, address):
    """No violation of moderate impact or worse, with rows closed and open."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    found = axe.run(visit(address, color_scheme=theme, bypass_csp=True)).response["violations"]

    assert [(one["id"], one["nodes"][0]["html"]) for one in found if one["impact"] != "minor"] == []


def test_prints_whole(visit):
    """On paper nothing is cut, and there are no controls."""
    tab = visit("#open=two-crosskd")
    tab.emulate_media(media="print")

    assert not tab.locator("#controls").is_visible()
    assert tab.locator(".picture img").evaluate("image => image.getBoundingClientRect().height") <= 165 * 96 / 25.4
    assert tab.pdf(format="A4", landscape=True).startswith(b"%PDF")


def test_opens_by_keyboard(visit):
    """Enter opens a row and Space closes it; the focus stays, and is seen."""
    tab = visit("#pair=two")
    button = tab.get_by_role("button", name="CrossKD", exact=True)
    seeds = tab.locator("#more-two-crosskd").get_by_role("heading", name="Results on the test split")
    tab.keyboard.press("Tab")
    button.focus()
    tab.keyboard.press("Enter")

    assert seeds.is_visible()
    assert button.get_attribute("aria-expanded") == "true"
    assert button.evaluate("one => one === document.activeElement && getComputedStyle(one).outlineStyle") == "solid"
    assert tab.locator("#more-two-crosskd svg").count() == 2

    tab.keyboard.press("Space")

    assert not seeds.is_visible()

    tab.get_by_role("columnheader", name="Gain", exact=True).get_by_role("button").press("Space")

    assert shown(tab, "method")[0] == "CrossKD + PKD highest gain"


def test_opens_all_of_what_is_shown(visit):
    """And closes them again."""
    tab = visit("#pair=two&method=crosskd")
    tab.get_by_role("button", name="Open all").click()

    assert tab.locator("tbody.open").count() == 2

    tab.get_by_role("button", name="Close all").click()

    assert tab.locator("tbody.open").count() == 0


def test_hides_a_column(visit):
    """Head and cells; an address that names none that exists hides nothing."""
    tab = visit()
    tab.locator("#columns > summary").click()
    tab.get_by_label("MiB").uncheck()

    assert shown(tab, "peak_memory_mib") == []
    assert not tab.locator('th[data-c="peak_memory_mib"]').is_visible()
    assert len(shown(tab, "images_per_s")) == 14
    assert "hide=peak_memory_mib" in tab.evaluate("location.hash")

    assert len(shown(visit('#hide=x"]{}&open=y&sort=constructor&theme=z&pair=q'), "peak_memory_mib")) == 14


def test_copies_the_command(visit):
    """Or, without a clipboard, selects it."""
    tab = visit("#open=two-crosskd")
    button = tab.locator("#more-two-crosskd .copy")
    button.click()
    tab.wait_for_function("document.querySelector('#more-two-crosskd .copy').textContent !== 'Copy'")

    assert button.inner_text() in {"Copied", "Selected"}


@pytest.mark.parametrize("width", [360, 390, 700, 800, 1000, 1400])
def test_no_width_makes_the_page_scroll_sideways(visit, width):
    """With a row open; tables that are wider scroll on their own."""
    tab = visit("#open=two-crosskd,two-crosskd%2Bpkd", viewport={"width": width, "height": 800})

    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.locator("#more-two-crosskd").get_by_role("heading", name="Result", exact=True).is_visible()


def test_head_and_controls_stay_in_sight(visit):
    """The table's head is below the controls, wherever the page is scrolled to."""
    tab = visit(viewport={"width": 1400, "height": 700})
    tab.locator("#row-two-pkd").evaluate("row => row.scrollIntoView()")
    bar, head, row = (tab.locator(one).bounding_box() for one in ("#controls", '#results th[data-c="score"]', "#row-two-pkd"))

    assert abs(bar["y"]) < 1
    assert head["y"] == pytest.approx(bar["height"], abs=1)
    assert row["y"] >= head["y"] + head["height"] - 1


def test_dark_and_light(visit):
    """As the system prefers; the button turns it round, and the address keeps it."""
    tab = visit(color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"

    assert tab.evaluate(background) == "rgb(21, 24, 27)"

    tab.get_by_role("button", name="Light").click()

    assert tab.evaluate(background) == "rgb(253, 253, 251)"
    assert visit("#theme=dark", color_scheme="light").evaluate(background) == "rgb(21, 24, 27)"


def test_without_scripts(visit):
    """Tables and details, and nothing that would not work."""
    tab = visit(java_script_enabled=False)
    details = tab.locator("#more-two-crosskd details")
    details.locator("summary").first.click()

    assert len(shown(tab, "method")) == 14
    assert details.get_by_role("heading", name="Results on the test split").is_visible()
    assert not tab.locator("button, select, input").filter(visible=True).count()
