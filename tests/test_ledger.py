"""The ledger of evidence: rungs, verdicts, confounds and next steps, by hand-made records and by the registry as it is."""

import json
import time
from pathlib import Path

import pytest
import torch

from benchmarks.reported import RegistryEntry
from pipelines.commands.evidence import evidence
from pipelines.released import registry
from pipelines.reporting import ledger as module
from pipelines.reporting.ledger import ledger
from reports.formats.evidence import counts, ledger_markdown, paragraphs
from reports.schemas.evidence import RUNGS, ReadLog, ReleasedStudent, ReportedScore
from tests.boards import board
from tests.conftest import ROOT

ENVIRONMENT = {"python": "3", "platform": "x", "device": "cpu", "num_cpus": 1, "threads": 1, "packages": {}, "mmlab": {}}
# Method rows of the papers that the suite began with.
SEEDS = {
    "maskd": [
        "frcnn-maskd-2023", "retina-r101-maskd-2023", "fcos-upgraded-maskd-2023", "cmr-frcnn-maskd-2023", "retina-x101-maskd-2023",
        "reppoints-maskd-2023",
    ],
    "maskd_seg": ["deeplabv3-r18-maskd-readme", "deeplabv3-r18-scratch-maskd-readme", "deeplabv3-mbv2-maskd-readme",
        "deeplabv3-pspnet-r18-maskd-readme"],
    "mgd": ["retina-x101-mgd-readme", "solo-mgd-readme"],
    "mgd_seg": ["pspnet-deeplabv3-r18-mgd-readme"],
    "crosskd": ["gfl-crosskd", "retina-r101-crosskd-readme", "fcos-crosskd-readme", "atss-crosskd-readme", "retina-swint-crosskd-readme"],
    "crosskd+pkd": ["gfl-crosskd-pkd", "retina-r101-crosskd-pkd-readme", "fcos-crosskd-pkd-readme", "atss-crosskd-pkd-readme"],
    "fgfi": ["frcnn-voc-fgfi-w1-readme"],
    "fgfi_weight2": ["frcnn-voc-fgfi-w2-readme"],
    "defeat": ["frcnn-unnamed-1x-defeat-abstract", "retina-unnamed-1x-defeat-abstract"],
}  # fmt: skip


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The real registries, and no records yet."""
    for name in ("benchmarks", "methods"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KD_DOWNLOADS", str(tmp_path / "downloads"))
    return tmp_path


def of(entries, name):
    """The entry of a result."""
    return next(entry for entry in entries if entry.id == name)


def record(scores=(), log=None, student="gfl-crosskd"):
    """Write a released student's record."""
    found = ReleasedStudent(
        student=student, reported=["gfl-crosskd"], tier="paper", pair="gfl_r101_r50", method="crosskd", scores=list(scores), log=log,
        git={"commit": None, "dirty": None}, environment=ENVIRONMENT, finished_at="2026-01-01",
    )  # fmt: skip
    path = Path(f"runs/paper/released/{student}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found.model_dump_json())


def read_log(last, best):
    """A log whose last and best scores are given."""
    return ReadLog(
        file="a.json", sha256="0" * 64, format="mmcv json", metric="bbox_mAP", scores=[(11, best), (12, last)], by_epoch=True, last=last,
        best=best, best_at=11, first_losses={"loss_cls": 1.0, "loss_bbox": 0.5, "loss_kd": 0.25, "loss": 1.75}, first_iterations=500,
    )  # fmt: skip


def trained(score, losses, seed=0, **changes):
    """Write the two records of a student that was trained here."""
    folder = Path(f"runs/paper/gfl_r101_r50/crosskd/seed{seed}")
    folder.mkdir(parents=True)
    curve = [{"iteration": 100 * (n + 1), "epoch": 1, "lr": 0.01, "loss": sum(losses.values()), **losses} for n in range(6)]
    run = {
        "stage": "distill", "status": "done", "tier": "paper", "pair": "gfl_r101_r50", "method": "crosskd", "seed": seed,
        "weights_sha256": "1" * 64, "curve": curve, **changes,
    }  # fmt: skip
    box = {"AP": score, "AP50": None, "AP75": None, "APs": None, "APm": None, "APl": None}
    metrics = {"num_images": 5000, "weights_sha256": "1" * 64, "metric": "box AP", "score": score, "box": box}
    (folder / "run.json").write_text(json.dumps(run))
    (folder / "metrics.json").write_text(json.dumps(metrics))


def test_every_result_has_a_rung_and_a_next_step_in_seconds(project):
    """From the registry alone; the rows of the papers that the suite began with are rows here."""
    begun = time.process_time()
    entries = ledger(looks_for_files=True)
    took = time.process_time() - begun

    assert len(entries) == len(registry.reported())
    assert all(entry.rung in RUNGS and entry.next_step for entry in entries)
    for method, names in SEEDS.items():
        for name in names:
            entry = of(entries, name)
            assert (entry.method, entry.is_row) == (method, True)
            assert "./kd " in entry.next_step
    assert took < 5  # of the processor's seconds, not of a busy machine's


def test_the_rungs_are_climbed_one_by_one(project):
    """Each record adds its verdict, and nothing else changes."""
    entry = of(ledger(), "gfl-crosskd")
    assert entry.rung == "artefact known"
    assert entry.verdicts["artefact known"] == "weights on Google Drive, by hand"
    assert entry.next_step.startswith("download https://drive.google.com/file/d/1S7")
    assert entry.next_step.endswith("as gfl-crosskd.pth, then ./kd released gfl_r101_r50 crosskd --only gfl-crosskd")

    score = ReportedScore(reported="gfl-crosskd", metric="box AP", value=43.7, measured=43.72, off=0.0, agrees=True)
    record([score])
    entry = of(ledger(), "gfl-crosskd")
    assert entry.rung == "weights re-evaluated"
    assert entry.verdicts["weights re-evaluated"].startswith("agree: 43.72 here")
    assert "./kd estimate --tier paper --pairs gfl_r101_r50 --methods none crosskd" in entry.next_step

    record([score], read_log(43.7, 43.7))
    assert of(ledger(), "gfl-crosskd").verdicts["log read"].startswith("ends at the reported score")

    trained(43.6, {"loss_cls": 1.1, "loss_bbox": 0.5, "loss_crosskd_cls": 0.2, "loss_crosskd_box": 0.05})
    entry = of(ledger(), "gfl-crosskd")
    assert entry.verdicts["losses at the log's level"] == "all 3 agree"
    assert entry.rung == "retrained"
    assert entry.verdicts["retrained"] == "1 seed, mean 43.60: inconclusive"
    for seed in (1, 2, 3, 4):
        trained(43.6 + seed / 50, {"loss_cls": 1.3, "loss_bbox": 0.5}, seed)
    entry = of(ledger(), "gfl-crosskd")
    assert entry.verdicts["losses at the log's level"].startswith("loss_cls")
    assert entry.verdicts["retrained"] == "5 seeds, mean 43.64: reproduced"
    assert entry.next_step.startswith("more seeds")
    # Records of a tier of reduced size are no evidence.
    assert of(ledger(["mini"]), "gfl-crosskd").rung == "artefact known"


@pytest.mark.parametrize(
    ("changes", "reason"), [({"precision": "bf16"}, "number format bf16"), ({"batch_size": 32}, "batch_size 16, here 32")]
)
def test_runs_with_other_settings_are_not_judged(project, changes, reason):
    """By the leaderboard's own rules."""
    for seed in range(5):
        trained(43.7, {"loss_cls": 1.0}, seed, **changes)

    assert of(ledger(), "gfl-crosskd").verdicts["retrained"] == f"5 seeds, mean 43.70: not judged: {reason}"


def test_scores_that_disagree_are_said(project):
    """At each rung."""
    score = ReportedScore(reported="gfl-crosskd", metric="box AP", value=43.7, measured=43.2, off=0.45, agrees=False)
    record([score], read_log(43.2, 43.7))
    entry = of(ledger(), "gfl-crosskd")

    assert entry.verdicts["weights re-evaluated"].startswith("differ by 0.45: 43.20 here")
    assert entry.verdicts["log read"].startswith("has it in its best epoch, not the last")
    assert "best epoch, not the last" in entry.confounds


def test_a_file_that_arrives_changes_the_ledger(project, capsys):
    """Downloaded by hand, before anything is evaluated; the report, which is the same everywhere, does not look."""
    (project / "downloads").mkdir()
    torch.save({}, project / "downloads/gfl-crosskd.pth")
    entry = of(ledger(looks_for_files=True), "gfl-crosskd")

    assert entry.verdicts["artefact known"] == "weights here (gfl-crosskd.pth)"
    assert entry.next_step == "./kd released gfl_r101_r50 crosskd --only gfl-crosskd"
    assert "here" not in of(ledger(), "gfl-crosskd").verdicts["artefact known"]
    evidence("gfl_r101_r50", methods=["crosskd"])
    assert "weights here" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "confound"),
    [
        ({"settings": {"inherits": ["neck", "bbox_head"]}}, "inherits neck, bbox_head from the teacher"),
        ({"variant": {"inherits": "neck and head"}}, "inherits neck and head from the teacher"),
        ({"variant": {"student": "class-agnostic boxes"}}, "student: class-agnostic boxes"),
        ({"settings": {"config": {"model.neck.add_extra_convs": "on_output", "optim_wrapper.lr": 0.1}}},
            "other modules than the baseline: neck.add_extra_convs = on_output"),
        ({"settings": {"epochs": 24}}, "longer schedule: 24 epochs, the baseline's 12"),
        ({"variant": {"training": "batch 32"}}, "training: batch 32"),
        ({"comparable": False, "differs": [{"kind": "teacher", "why": "another checkpoint"}]}, "teacher: another checkpoint"),
        ({"gain_differs": "another baseline"}, "gain: another baseline"),
        ({"read": "second-hand"}, "figure read second-hand"),
        ({}, None),
    ],
)  # fmt: skip
def test_confounds(project, monkeypatch, changes, confound):
    """One at a time; a result without any has none."""
    base = {
        "id": "a-b", "pair": "gfl_r101_r50", "what": "method", "method": "crosskd", "metric": "box AP", "value": 43.0, "baseline": 40.2,
        "source": "a table", "read": "verbatim", "comparable": True,
    }  # fmt: skip
    control = {
        **base,
        "id": "a-c",
        "what": "control",
        "method": "none",
        "value": 40.2,
        "baseline": None,
        "settings": {"epochs": 12},
    }
    entries = {one["id"]: RegistryEntry.model_validate(one) for one in ({**base, **changes}, control)}
    monkeypatch.setattr(module, "reported", lambda: entries)
    found = ledger()

    assert of(found, "a-b").confounds == ([confound] if confound else [])
    assert of(found, "a-c").confounds == []


def test_the_markdown_has_every_result_once(project):
    """Cells are on one line; the first table counts what the others list."""
    entries = ledger()
    text = ledger_markdown(entries)
    lines = [line for line in text.splitlines() if line.startswith("| `")]

    assert len(lines) == len(entries)
    assert {line.split("`")[1] for line in lines} == {entry.id for entry in entries}
    assert all(line.count(" | ") == 6 for line in lines)
    assert sum(counts(entries).values()) == len(entries)
    for rung, number in counts(entries).items():
        assert f"| {rung} |" in text
        assert f" | {number} |" in next(line for line in text.splitlines() if line.startswith(f"| {rung} |"))


def test_the_first_page_counts_the_rungs(project):
    """Of all results, and of those beside the grid's rows."""
    entries = ledger()
    (text,) = paragraphs(board().model_copy(update={"evidence": entries}))

    assert f"Highest rung of evidence of the {len(entries)} reported results: quoted {counts(entries)['quoted']}, " in text
    assert "evidence.md" in text
    assert paragraphs(board()) == []
