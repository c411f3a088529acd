"""Answers in a sentence per pair: every state that a pair can be in, by hand."""

import pytest

from reports.formats.headlines import best, headline, ranked, rung, scale
from reports.schemas.evidence import LedgerEntry
from reports.schemas.leaderboard import RecipeSummary, Row
from reports.schemas.reported import ReportedComparison, ReportedResult
from tests.test_page import made_up, row

CONTROL = RecipeSummary(title="longer", is_control=True, paper=None, source=None, notes=[], deviations=[])


def of(*rows, **changes):
    """The sentence on a pair with these rows, of which ``longer`` is a control."""
    board = made_up().model_copy(update={"recipes": {"longer": CONTROL, "none": CONTROL}, **changes})
    table = board.tables[1].model_copy(update={"rows": list(rows)})
    return headline(table, board.model_copy(update={"tables": [table]}))


def gained(method, points, p=0.001, holm=0.004, **others):
    """A row with a gain and its interval of one point on either side."""
    return row(
        method,
        method.upper(),
        11 + points,
        gain=points,
        gain_low=points - 1,
        gain_high=points + 1,
        gain_p=p,
        gain_p_holm=holm,
        **others,
    )


BASE = row("none", "none (baseline)", 11.0)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [BASE, gained("pkd", 2.0), gained("mgd", 3.0, gap_closed=0.33, gap_low=0.2, gap_high=0.5)],
            "On Second, MGD gains +3.0 [+2.0, +4.0] AP and closes 33 % [20, 50] of the gap to the teacher, the most of 2 methods.",
        ),
        ([BASE, gained("pkd", 2.0)], "On Second, PKD gains +2.0 [+1.0, +3.0] AP, the only method here."),
        (
            [BASE, gained("pkd", 2.0), gained("pkd", 2.5, tuned=True)],
            "On Second, PKD gains +2.5 [+1.5, +3.5] AP, the only method here.",
        ),
        (
            [BASE, gained("pkd", 2.0, p=0.03, holm=0.1)],
            "On Second, PKD gains +2.0 [+1.0, +3.0] AP, the only method here, but not significantly after correction for 4 tests.",
        ),
        ([BASE, gained("pkd", 0.4, p=0.4, holm=0.9), gained("mgd", 0.2, p=0.6, holm=0.9)],
         "On Second, no gain is significant: PKD has the highest of 2, +0.4 [-0.6, +1.4] AP."),
        ([BASE, gained("pkd", -2.0)], "On Second, no method gains: PKD, the only one, is at -2.0 [-3.0, -1.0] AP."),
        ([BASE, row("pkd", "PKD", 14.0, gain=3.0, untested="one seed")], "On Second, PKD gains +3.0 AP, the only method here; untested: one seed."),
        (
            [BASE, gained("pkd", 2.0), gained("longer", 4.0), Row(method="mgd", title="MGD", parts=["mgd"], status="failed")],
            ("On Second, PKD gains +2.0 [+1.0, +3.0] AP, the only method here. "
            "Control 'LONGER' gains +4.0 [+3.0, +5.0], more than any method. Without a result: MGD (failed)."),
        ),
        ([BASE, gained("longer", 4.0, p=0.3, holm=0.5)], "On Second, no method is in this grid; the baseline scores 11.0 AP."),
        ([BASE, Row(method="mgd", title="MGD", parts=["mgd"], status="not run")],
         "On Second, no distilled student has finished yet; the baseline scores 11.0 AP. Without a result: MGD (not run)."),
        ([row("pkd", "PKD", 9.0)], "On Second, no gain is known yet: the baseline has not finished."),
        ([Row(method="none", title="none", parts=["none"], status="not run")], "On Second, nothing has finished yet, of 1 row."),
        ([BASE, gained("pkd", 2.0), Row(method="cwd", title="CWD", parts=["cwd"], status="unsupported")],
         "On Second, PKD gains +2.0 [+1.0, +3.0] AP, the only method here."),
    ],
)  # fmt: skip
def test_answers(rows, expected):
    """Hundred rows or none: one sentence, and what belongs to it."""
    assert of(*rows) == expected


def test_the_scale_is_said_once():
    """As the lead of all answers."""
    assert scale(made_up()) == "At reduced scale (small), not on COCO:"
    assert scale(made_up("paper", paper_scale=True)) == "At paper scale, on COCO:"


def test_reported_results_at_paper_scale():
    """Each judged result with its verdict; one that was not judged counts nowhere."""

    def reported(gain, verdict):
        judged = verdict and ReportedComparison(
            difference=0.0, low=None, high=None, margin=0.3, verdict=verdict, further_seeds=None, p_equivalent=None, p_different=None,
            p_holm=None,
        )  # fmt: skip
        return ReportedResult(
            id=f"{gain}", value=40 + gain, gain=gain, teacher=None, source="a", read="verbatim", gain_verdict=judged or None
        )

    rows = [
        BASE,
        gained("pkd", 2.0, reported=[reported(2.1, "reproduced"), reported(3.0, None)]),
        gained("mgd", 1.0, reported=[reported(1.9, "not reproduced")]),
    ]

    assert of(*rows, paper_scale=True).endswith(
        "the most of 2 methods. Reported results here: 1 reproduced, 1 not reproduced (PKD +2.1 reproduced, MGD +1.9 not reproduced)."
    )


def test_order_of_rows():
    """Baseline, gains from the highest, equals as in the grid, then rows without one."""
    rows = [
        Row(method="cwd", title="CWD", parts=["cwd"], status="unsupported"),
        gained("pkd", 2.0), gained("mgd", 3.0), gained("fgd", 2.0), BASE, row("ld", "LD", 9.0),
    ]  # fmt: skip

    assert [one.method for one in ranked(rows)] == ["none", "mgd", "pkd", "fgd", "ld", "cwd"]


def test_a_control_is_never_the_best():
    """Nor is a loss."""
    board = made_up().model_copy(update={"recipes": {"longer": CONTROL}})
    table = board.tables[0].model_copy(update={"rows": [BASE, gained("longer", 4.0), gained("pkd", 2.0)]})

    assert best(table, board).method == "pkd"
    assert best(table.model_copy(update={"rows": [BASE, gained("pkd", -1.0)]}), board) is None


def test_rung_of_a_row():
    """The highest of its results; those of the teacher and of settings outside the suite are not its own."""

    def entry(method, rungs, what="method", setting=None):
        return LedgerEntry(
            id=f"{method}{what}{setting}", pair="two", setting=setting, method=method, is_row=True, what=what, kind="published", metric="box AP", value=1.0,
            gain=None, source="a", verdicts=dict.fromkeys(rungs, "x"), confounds=[], next_step="none",
        )  # fmt: skip

    board = made_up().model_copy(
        update={
            "evidence": [
                entry("pkd", ["quoted"]),
                entry("pkd", ["quoted", "log read"]),
                entry("pkd", ["quoted", "retrained"], setting="elsewhere"),
                entry("mgd", ["quoted", "retrained"], what="teacher"),
            ]
        }
    )

    assert rung(gained("pkd", 1.0), board.tables[1], board) == "log read"
    assert rung(gained("mgd", 1.0), board.tables[1], board) is None
