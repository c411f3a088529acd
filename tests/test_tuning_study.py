"""A study shared by workers that may be killed: no training, a function stands in for it."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from pipelines.tuning import study as module
from pipelines.tuning.journal import repair
from pipelines.tuning.params import TuningParams
from pipelines.tuning.study import SharedStudy
from pipelines.tuning.trial_result import AssignedTrial, TrialResult, result_of
from tests.conftest import tuning

SPACE = {"x": FloatDistribution(0.1, 10.0, log=True), "y": FloatDistribution(0.0, 1.0)}
START = {"x": 1.0, "y": 0.5}
GONE = {"host": os.uname().nodename, "pid": 2**22 + 1, "start": "boot 0, tick 0"}  # above the kernel's highest


def opened(folder, space=SPACE, **changes):
    """A study in a folder."""
    return SharedStudy(
        folder, "mini/pair/mgd/default", TuningParams(**tuning(**{"trials": 6, "pruner": "none", **changes})), space, START
    )


def score(hparams):
    """Highest at x = 3, y = 0.2."""
    return 10 - (hparams["x"] - 3) ** 2 - (hparams["y"] - 0.2) ** 2


def complete(claim, *further):
    """A trial that went well."""
    value = score(claim.hparams)
    return TrialResult("complete", [value, *further], [(5, value)], 5, 5, 1.0, 2.0)


def run(study, outcome=complete, most=99):
    """Work until nothing is left, or for so many trials."""
    claims = []
    while len(claims) < most and isinstance(claim := study.next_trial(), AssignedTrial):
        study.finish(claim, outcome(claim))
        claims.append(claim)
    return claims


def tried(study):
    """Hyper-parameters of the trials that count, in order."""
    return [trial.params for trial in study.counted()]


def abandon(study, claim):
    """As if the worker had been killed."""
    study.storage.set_trial_user_attr(claim.trial_id, "owner", GONE)


def test_the_recipe_comes_first_and_the_budget_is_kept(tmp_path):
    """Then others, each inside of the space; when all are done there is none left."""
    study = opened(tmp_path)
    claims = run(study)

    assert claims[0].hparams == START
    assert [claim.ordinal for claim in claims] == [1, 2, 3, 4, 5, 6]
    assert all(0.1 <= claim.hparams["x"] <= 10 and 0 <= claim.hparams["y"] <= 1 for claim in claims)
    assert len({claim.hparams["x"] for claim in claims}) == 6
    assert study.next_trial() is None
    best = max(claims, key=lambda claim: score(claim.hparams))
    assert study.front() == [best.number]


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_the_same_seed_gives_the_same_trials(tmp_path, sampler):
    """And another seed others."""
    one, same, other = (opened(tmp_path / str(n), sampler=sampler, seed=seed) for n, seed in enumerate((100, 100, 101)))
    for study in (one, same, other):
        run(study)

    assert tried(one) == tried(same)
    assert tried(one)[1:] != tried(other)[1:]


def test_interruptions_change_nothing(tmp_path):
    """A study that is opened anew for every trial, of which two are lost, tries what an uninterrupted one tries."""
    run(opened(tmp_path / "whole"))
    for turn in range(8):
        study = opened(tmp_path / "torn")
        if turn in {0, 3}:
            abandon(study, study.next_trial())
        else:
            run(study, most=1)
    whole, torn = opened(tmp_path / "whole"), opened(tmp_path / "torn")

    assert torn.next_trial() is None
    assert tried(torn) == tried(whole)
    assert [outcome.state for _, outcome in torn.finished()].count("lost") == 2
    assert [trial.user_attrs.get("is_recipe", False) for trial, outcome in torn.finished() if outcome.state != "lost"] == [
        True
    ] + [False] * 5


def test_more_trials_go_on_from_where_it_was(tmp_path):
    """Neither the first ones nor their draws are repeated."""
    run(opened(tmp_path, trials=3))
    study = opened(tmp_path, trials=6)

    assert len(run(study)) == 3
    assert len({hparams["x"] for hparams in tried(study)}) == 6


def test_workers_share_the_trials(tmp_path):
    """Four at once on one journal: each trial once, exactly as many as asked for."""
    studies = [opened(tmp_path, trials=12) for _ in range(4)]
    done = [[] for _ in studies]

    def work(number):
        while (claim := studies[number].next_trial()) is not None:
            if claim == "wait":
                time.sleep(0.01)
                continue
            time.sleep(0.02)
            studies[number].finish(claim, complete(claim))
            done[number].append(claim)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    claims = [claim for of_one in done for claim in of_one]

    assert sorted(claim.number for claim in claims) == list(range(12))
    assert len({claim.hparams["x"] for claim in claims}) == 12
    assert sum(claim.hparams == START for claim in claims) == 1


def test_a_worker_waits_for_the_last_trials_of_others(tmp_path):
    """They may yet be lost, and be its own."""
    one, other = opened(tmp_path, trials=2), opened(tmp_path, trials=2)
    first, second = one.next_trial(), other.next_trial()
    one.finish(first, complete(first))

    assert one.next_trial() == "wait"
    abandon(other, second)
    again = one.next_trial()
    assert again.hparams == second.hparams
    assert again.number == 2


def test_what_a_dead_worker_left_behind_is_taken_over(tmp_path):
    """The trial's process outlived it and wrote its outcome: the trial counts, once."""
    study = opened(tmp_path, trials=2)
    claim = study.next_trial()
    abandon(study, claim)
    outcome = complete(claim)
    study.note_path(claim.number).write_text(json.dumps(outcome.__dict__))
    run(study)

    assert [outcome.state for _, outcome in study.finished()] == ["complete", "complete"]
    assert study.finished()[0][0].value == score(START)


def test_a_living_process_of_a_dead_worker_is_let_be(tmp_path):
    """Its end is waited for."""
    study = opened(tmp_path, trials=1)
    claim = study.next_trial()
    abandon(study, claim)
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        study.working_on(claim, process.pid)
        waiting = study.next_trial()
        process.kill()

    assert waiting == "wait"
    assert study.next_trial().hparams == START


def test_another_process_of_the_same_number_is_not_taken_for_the_worker(tmp_path):
    """A process id alone proves nothing: it may have been given anew."""
    study = opened(tmp_path, trials=1)
    claim = study.next_trial()
    study.storage.set_trial_user_attr(claim.trial_id, "owner", {**GONE, "pid": os.getpid()})

    assert study.next_trial().number == 1


def test_workers_elsewhere_are_known_by_a_sign_of_life(tmp_path, monkeypatch):
    """No process can be looked for on another host; after ten minutes without a sign it is taken for dead."""
    study = opened(tmp_path, trials=1)
    claim = study.next_trial()
    study.storage.set_trial_user_attr(claim.trial_id, "owner", {**GONE, "host": "elsewhere"})
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(module.time, "time", lambda: 10**10)  # a step of this host's clock
    study.still_at(claim)
    waiting = [study.next_trial()]
    now[0] += 599
    os.utime(tmp_path / f"trial{claim.number}.alive", (5, 5))  # the other host's clock is another
    waiting.append(study.next_trial())
    now[0] += 599
    waiting.append(study.next_trial())
    now[0] += 2

    assert waiting == ["wait"] * 3
    assert study.next_trial().hparams == START


def test_a_trial_that_is_killed_again_and_again_has_failed(tmp_path):
    """Twice it is tried anew, with the same values; the third time it counts, with a reason."""
    study = opened(tmp_path, trials=1)
    for _ in range(3):
        claim = study.next_trial()
        assert claim.hparams == START
        study.finish(claim, None, -9)
    (last,) = study.counted()

    assert [outcome.state for _, outcome in study.finished()] == ["lost", "lost", "failed"]
    assert result_of(last).reason.startswith("its process was killed (signal 9), 3 times")


@pytest.mark.parametrize(("exit_code", "met_oom_killer"), [(-9, False), (-15, None), (-2, None)])
def test_a_signal_fails_no_trial(tmp_path, exit_code, met_oom_killer):
    """However often somebody ends its process; the kernel, which has ended none for lack of memory, knows of it."""
    study = opened(tmp_path, trials=1)
    for _ in range(5):
        claim = study.next_trial()
        assert claim.hparams == START
        study.finish(claim, None, exit_code, met_oom_killer=met_oom_killer)

    assert [outcome.state for _, outcome in study.finished()] == ["lost"] * 5
    assert study.counted() == []


def test_failures_count_and_the_study_goes_on(tmp_path):
    """Until all of the first three have failed: then it is given up, with the first cause."""
    some, none = opened(tmp_path / "some"), opened(tmp_path / "none")

    def now_and_then(claim):
        return TrialResult("failed", reason="loss is not finite") if claim.ordinal % 2 else complete(claim)

    def never(claim):
        return TrialResult("failed", reason=f"cause {claim.ordinal}")

    assert len(run(some, now_and_then)) == 6
    assert some.study.get_trials()[0].state == TrialState.FAIL
    with pytest.raises(ValueError, match=r"3 trials .*cause 1;.* \{study: default_2\}"):
        run(none, never)


def test_the_budget_of_time(tmp_path):
    """Two seconds a trial: none is begun once five are spent, though eight trials were asked for."""
    study = opened(tmp_path, trials=8, max_hours=5 / 3600)

    assert len(run(study)) == 3


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({**SPACE, "x": FloatDistribution(0.1, 20.0, log=True)}, r"x \(0\.1 to 10, log.* 0\.1 to 20, log"),
        ({"x": SPACE["x"]}, r"y \(0 to 1, linear.*not searched"),
        ({**SPACE, "z": FloatDistribution(0.0, 1.0)}, r"z \(not searched.* 0 to 1, linear"),
    ],
)
def test_a_space_that_has_changed(tmp_path, space, said):
    """Says which, and offers another name."""
    run(opened(tmp_path), most=1)
    with pytest.raises(ValueError, match=said) as caught:
        opened(tmp_path, space)

    assert "tuning: {study: default_2} in params.yaml" in str(caught.value)


@pytest.mark.parametrize("cut", [1, 10])
def test_a_journal_cut_in_a_line(tmp_path, capsys, cut):
    """A line that its killed writer left incomplete is removed; all before it counts."""
    study = opened(tmp_path)
    run(study, most=2)
    claim = study.next_trial()
    journal = tmp_path / "journal.log"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines)[:-cut])
    again = opened(tmp_path)

    assert "journal.log" in capsys.readouterr().out
    assert len(again.counted()) == 2
    assert b"".join(lines[:-1]) == journal.read_bytes()[: sum(map(len, lines[:-1]))]
    # The cut line said who works on the third trial: nobody is known to, so it is tried again.
    run(again)
    assert tried(again)[2] == claim.hparams
    assert len(tried(again)) == 6


def test_whole_journals_are_not_mended(tmp_path):
    """Nor what is empty or not there."""
    (tmp_path / "whole").write_text("{}\n")
    (tmp_path / "empty").touch()

    assert [repair(tmp_path / name) for name in ("whole", "empty", "none")] == [False] * 3
    assert (tmp_path / "whole").read_text() == "{}\n"


def test_a_damaged_journal(tmp_path):
    """File and line, and what can be done."""
    run(opened(tmp_path), most=1)
    journal = tmp_path / "journal.log"
    lines = journal.read_text().splitlines(keepends=True)
    journal.write_text("".join([*lines[:3], "{broken\n", *lines[3:]]))

    with pytest.raises(ValueError, match=r"journal\.log: line 4 .*tuning\.study"):
        opened(tmp_path)


def test_two_objectives(tmp_path):
    """The front is what no other trial betters in both; made by hand from four trials."""
    made = iter([(5.0, 10.0), (6.0, 20.0), (4.0, 15.0), (6.5, 30.0)])
    study = opened(tmp_path, trials=4, objectives=["score", "train_s"])
    run(study, lambda _: TrialResult("complete", list(next(made)), [], 5, 5, 1.0, 2.0))

    assert study.front() == [0, 1, 3]


def test_importance(tmp_path):
    """All of it is x's where the score is x's alone; None from three trials, or where all scores are equal."""
    study, few, flat = (
        opened(tmp_path / "a", trials=30, sampler="random"),
        opened(tmp_path / "b", trials=3),
        opened(tmp_path / "c"),
    )
    run(study, lambda claim: TrialResult("complete", [claim.hparams["x"]]))
    run(few)
    run(flat, lambda _: TrialResult("complete", [1.0]))
    found = study.importance()

    assert sum(found.values()) == pytest.approx(1, abs=1e-3)
    assert found["x"] > 0.9
    assert few.importance() is flat.importance() is None


def test_a_pruned_trial_counts_and_is_never_the_best(tmp_path):
    """Its last report is no result."""
    study = opened(tmp_path, trials=2)
    first, second = study.next_trial(), study.next_trial()
    study.finish(first, complete(first))
    study.storage.set_trial_intermediate_value(second.trial_id, 1, 99.0)
    study.finish(second, TrialResult("pruned", None, [(1, 99.0)], 1, 5, 1.0, 1.0))

    assert len(study.counted()) == 2
    assert study.front() == [0]
    assert study.next_trial() is None
