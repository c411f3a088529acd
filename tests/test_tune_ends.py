"""Stage ``tune`` around its trials, for which a function stands in: what becomes of each kind of end."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest
import yaml

from pipelines import errors
from pipelines.resolved import confirm
from pipelines.runner.processes import ProcessEnd
from pipelines.stages import tune
from pipelines.tuning.journal import storage_at
from pipelines.tuning.study import SharedStudy
from pipelines.tuning.trial_result import TrialResult
from tests.conftest import PAIR, ROOT, committed, edit_yaml, read, tuning

RECIPE = {"alpha": 0.0853, "share_masked": 0.65}  # MGD's on this pair: 2e-5 times 256 x 22400 over 16 x 84
OUT = Path("out")


@pytest.fixture(autouse=True)
def asked(tmp_path, monkeypatch):
    """A project's files, where nothing but a study is made; the command line asks for MGD."""
    for name in ("benchmarks", "methods"):
        (tmp_path / name).symlink_to(ROOT / name)
    (tmp_path / "params.yaml").write_text(committed("params.yaml"))
    edit_yaml(tmp_path / "params.yaml", tier="smoke", grid={PAIR: ["none", "mgd"]}, tuning=tuning())
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_STAGE", raising=False)
    monkeypatch.setattr(tune, "confirm", lambda *_: {"code": {}})  # stage check has seen it
    command(monkeypatch)


def command(monkeypatch, pair=PAIR, method="mgd"):
    """Set the command line that the user types."""
    line = f"tune --tier smoke --pair {pair} --method {method} --out {OUT}"
    monkeypatch.setattr(sys, "argv", line.split())


def ask(**changes):
    """Other wishes in params.yaml."""
    edit_yaml(Path("params.yaml"), tuning=tuning(**changes))


def ended(state="complete", score=0.0, train_s=1.0, iterations=20, **about):
    """The orderly end of a trial that reports twice in 20 iterations."""
    values = [score] if state == "complete" else None
    reports = [(step, score) for step in (10, 20) if step <= iterations]
    return ProcessEnd(TrialResult(state, values, reports, iterations, 20, train_s, 2 * train_s, **about), exit_code=0)


def killed(*_):
    """As a process that SIGKILL ended."""
    return ProcessEnd(exit_code=-9)


def stage(monkeypatch, capsys, end):
    """Run the stage, ``end(claim)`` in place of a trial: exit code, standard output and error, claims."""
    claims = []

    def call(function, *given, **_):
        if function.endswith(":describe"):
            return ProcessEnd({"identity": "0" * 64, "metric": "box AP"}, exit_code=0)
        if not function.endswith(":run_trial"):
            return ProcessEnd(exit_code=0)
        claims.append(given[1])
        result = end(given[1])
        if result.result is not None:  # as a trial's process does
            (given[2] / f"trial{given[1].number}.json").write_text(json.dumps(vars(result.result)))
        return result

    monkeypatch.setattr(tune, "call", call)
    try:
        errors.run(tune.main)
        code = 0
    except SystemExit as error:
        code = error.code
    said = capsys.readouterr()
    return code, said.out, said.err, claims


def workers_are_gone(monkeypatch):
    """Workers of an earlier start were this process, which lives."""
    monkeypatch.setattr(SharedStudy, "_is_alive", lambda *_: False)


def journal():
    """The only study's."""
    (path,) = Path("work").rglob("journal.log")
    return path


def states(out=OUT):
    """States of all trials on record, lost ones included."""
    return [one["state"] for one in read(out / "study.json")["trials"]]


def test_best_is_the_highest_complete_score_and_the_first_of_equals(monkeypatch, capsys):
    """Scores 1, 7, 7 and a pruned 9; 3 x 20 + 10 iterations."""
    ask(trials=4)
    outcomes = [ended(score=1.0), ended(score=7.0), ended(score=7.0), ended("pruned", 9.0, iterations=10)]
    code, out, _, claims = stage(monkeypatch, capsys, lambda claim: outcomes[claim.number])
    best = yaml.safe_load((OUT / "best.yaml").read_text())

    assert code == 0
    assert best == {
        "status": "done", "study": "default", "hparams": claims[1].hparams, "metric": "box AP", "score": 7.0, "recipe_score": 1.0,
        "trial": 1, "front": [1], "num_trials": {"complete": 3, "pruned": 1, "failed": 0}, "iterations": 70,
    }  # fmt: skip
    assert claims[0].hparams == RECIPE
    assert re.search(r"\b7\.0 .*\b1\.0;.* 3 complete, 1 pruned, 0 failed$", out.splitlines()[-1])


def test_two_objectives_have_a_front(monkeypatch, capsys):
    """(1, 5 s), (7, 9 s), (7, 8 s), (3, 20 s): the third betters the second and the fourth; the higher score is handed out."""
    ask(trials=4, objectives=["score", "train_s"], pruner="none")
    given = [[1.0, 5.0], [7.0, 9.0], [7.0, 8.0], [3.0, 20.0]]
    outcomes = [
        ProcessEnd(TrialResult("complete", values, [(20, values[0])], 20, 20, values[1], 30.0), exit_code=0) for values in given
    ]
    code, _, err, _ = stage(monkeypatch, capsys, lambda claim: outcomes[claim.number])
    best = yaml.safe_load((OUT / "best.yaml").read_text())

    assert code == 0, err
    assert (best["front"], best["trial"], best["score"]) == ([0, 2], 2, 7.0)


def test_a_trial_killed_three_times_has_failed(monkeypatch, capsys):
    """Twice it is lost and tried again at the same values, then it takes one of the three; the others are not touched."""
    code, _, err, claims = stage(monkeypatch, capsys, lambda claim: killed() if claim.hparams == RECIPE else ended())
    third = read(OUT / "study.json")["trials"][2]

    assert code == 0, err
    assert states() == ["lost", "lost", "failed", "complete", "complete"]
    assert [claim.ordinal for claim in claims] == [1, 1, 1, 2, 3]
    assert third["reason"].startswith("its process was killed (signal 9), 3 times")
    assert third["is_recipe"]
    assert "recipe_score" not in yaml.safe_load((OUT / "best.yaml").read_text())


@pytest.mark.parametrize(("trials", "tried"), [(1, 1), (2, 2), (5, 3)])
def test_every_trial_fails(monkeypatch, capsys, trials, tried):
    """Exit code 2, one line with the first cause, nothing written; three are enough to know. Another study starts afresh."""
    ask(trials=trials)
    code, _, err, claims = stage(monkeypatch, capsys, lambda claim: ended("failed", iterations=0, reason=f"cause {claim.number}"))

    assert (code, len(claims), len(err.splitlines())) == (2, tried, 1)
    assert re.match(rf"error: .*\b{tried} trials .*{journal().parent} .*cause 0;", err), err
    assert not OUT.exists()

    ask(trials=1, study="default_2")
    assert stage(monkeypatch, capsys, lambda _: ended())[0] == 0
    assert states() == ["complete"]


def test_a_full_disk_costs_no_trial(monkeypatch, capsys):
    """The worker stops with one line that names the trial; the next start tries it again."""
    full = ProcessEnd(error="[Errno 28] No space left on device", exit_code=0)
    code, _, err, _ = stage(monkeypatch, capsys, lambda claim: full if claim.number == 1 else ended())

    assert (code, len(err.splitlines())) == (2, 1)
    assert re.match(rf"error: trial 1 .*{journal().parent}: .*No space left on device", err), err
    assert not OUT.exists()

    workers_are_gone(monkeypatch)
    code, out, err, claims = stage(monkeypatch, capsys, lambda _: ended())
    first, lost, again, _ = read(OUT / "study.json")["trials"]

    assert code == 0, err
    assert "1 of 3 trials done, 1 under way" in out
    assert states() == ["complete", "lost", "complete", "complete"]
    assert lost["hparams"] == again["hparams"] == claims[0].hparams != first["hparams"]


@pytest.mark.parametrize("cut", [1, 40])
def test_a_journal_cut_in_its_last_line_is_mended(monkeypatch, capsys, cut):
    """One line says so; what the trial's process left behind counts, and nothing is trained twice."""
    ask(trials=2)
    assert stage(monkeypatch, capsys, lambda _: ended())[0] == 0
    content = journal().read_bytes()
    journal().write_bytes(content[:-cut])
    ask(trials=3)
    workers_are_gone(monkeypatch)
    code, out, err, claims = stage(monkeypatch, capsys, lambda _: ended())

    assert code == 0, err
    assert out.count(f"[tune] {journal()}: ") == 1
    assert states() == ["complete"] * 3
    assert [claim.number for claim in claims] == [2]


def test_a_damaged_journal_is_one_line(monkeypatch, capsys):
    """File and line, and what can be done; nothing is written."""
    assert stage(monkeypatch, capsys, lambda _: ended())[0] == 0
    lines = journal().read_bytes().splitlines(keepends=True)
    journal().write_bytes(b"".join([*lines[:2], b"no journal\n", *lines[3:]]))
    before = (OUT / "study.json").read_bytes()
    code, _, err, claims = stage(monkeypatch, capsys, lambda _: ended())

    assert (code, len(err.splitlines()), claims) == (2, 1, [])
    assert re.match(rf"error: {journal()}: line 3 .*tuning\.study in params\.yaml", err), err
    assert (OUT / "study.json").read_bytes() == before


def test_a_changed_space_is_one_line_and_another_name_works(monkeypatch, capsys):
    """Both ranges of each hyper-parameter: of alpha 0.1 to 10 times 0.0853 then, 0.5 to 2 times now."""
    assert stage(monkeypatch, capsys, lambda _: ended())[0] == 0
    narrow = {"mgd": {"alpha": {"times": [0.5, 2]}}}
    ask(space=narrow)
    code, _, err, claims = stage(monkeypatch, capsys, lambda _: ended())

    assert (code, len(err.splitlines()), claims) == (2, 1, [])
    assert re.search(
        r"alpha \(0\.00853 to 0\.853, log.* 0\.04265 to 0\.1706, log.*share_masked \(0\.2 to 0\.8, linear.*not searched", err
    )
    assert "tuning: {study: default_2} in params.yaml" in err

    ask(space=narrow, study="default_2")
    code, _, err, claims = stage(monkeypatch, capsys, lambda _: ended())

    assert code == 0, err
    assert all(claim.hparams.keys() == {"alpha"} and 0.04265 <= claim.hparams["alpha"] <= 0.1706 for claim in claims)


KILLED_WRITING = """
import os, sys
from pathlib import Path
from pipelines.tuning.journal import storage_at

storage_at(Path(sys.argv[1]))._backend._lock.acquire()
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_a_lock_on_the_journal_goes_with_its_process(monkeypatch, capsys):
    """A worker that is killed while it writes keeps nobody from going on."""
    ask(trials=2)
    assert stage(monkeypatch, capsys, lambda _: ended())[0] == 0
    folder = journal().parent
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED_WRITING, folder], env=environment, check=False)
    asking = Thread(target=storage_at(folder)._backend._lock.acquire, daemon=True)
    asking.start()
    asking.join(10)
    is_stuck = asking.is_alive()
    for lock in folder.glob("journal.log.*"):
        lock.unlink()  # so that the thread ends
    asking.join()

    assert done.returncode == -9
    assert not is_stuck


def test_a_cell_that_cannot_be_tuned_is_a_line(monkeypatch, capsys):
    """The reason why the method does not run on the pair; no trial is run and nothing is left."""
    command(monkeypatch, "faster_rcnn_r101_r50", "crosskd")
    code, _, err, claims = stage(monkeypatch, capsys, killed)

    assert (code, claims) == (2, [])
    assert re.fullmatch("error: crosskd .*faster_rcnn_r101_r50: .*'dense_head'.*\n", err), err
    assert not OUT.exists()


def test_what_changed_since_stage_check_is_a_line(monkeypatch, capsys):
    """As every stage says it, before any trial."""
    monkeypatch.setattr(tune, "confirm", confirm)
    code, _, err, claims = stage(monkeypatch, capsys, killed)

    assert (code, claims) == (2, [])
    assert re.fullmatch(rf"error: runs/resolved/tune/{PAIR}/mgd\.json .*dvc repro check\n", err), err
    assert not OUT.exists()
