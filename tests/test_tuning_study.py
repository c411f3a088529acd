"""A study shared by workers that may be killed: no training, a function stands in for it."""

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
import warnings

import optuna
import pytest
import sqlalchemy
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState

from pipelines.tuning import storage
from pipelines.tuning.settings import Tuning
from pipelines.tuning.study import Claim, LostError, Outcome, SharedStudy, outcome_of, slot_of, tell
from tests.conftest import ROOT, tuning

SPACE = {"x": FloatDistribution(0.1, 10.0, log=True), "y": FloatDistribution(0.0, 1.0)}
START = {"x": 1.0, "y": 0.5}


def opened(folder, space=SPACE, **changes):
    """A study in a folder."""
    return SharedStudy(
        folder, "mini/pair/mgd/default", Tuning(**tuning(**{"trials": 6, "pruner": "none", **changes})), space, START
    )


def score(hparams):
    """Highest at x = 3, y = 0.2."""
    return 10 - (hparams["x"] - 3) ** 2 - (hparams["y"] - 0.2) ** 2


def complete(claim, *further):
    """A trial that went well."""
    value = score(claim.hparams)
    return Outcome("complete", [value, *further], [(5, value)], 5, 5, 1.0, 2.0)


def run(study, outcome=complete, most=99):
    """Work until nothing is left, or for so many trials."""
    claims = []
    while len(claims) < most and isinstance(claim := study.claim(), Claim):
        study.finish(claim, outcome(claim))
        claims.append(claim)
    return claims


def tried(study):
    """Hyper-parameters of the trials that count, in order."""
    return [trial.params for trial in study.counted()]


def abandon(study):
    """As if the workers of all trials under way had been killed long ago."""
    with study.storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00.000000'")


def slots(study):
    """Of the trials that count."""
    return sorted(slot_of(trial) for trial in study.counted())


def test_the_recipe_comes_first_and_the_budget_is_kept(tmp_path):
    """Then others, each inside of the space; when all are done there is none left."""
    study = opened(tmp_path)
    claims = run(study)

    assert claims[0].hparams == START
    assert [claim.position for claim in claims] == [1, 2, 3, 4, 5, 6]
    assert all(0.1 <= claim.hparams["x"] <= 10 and 0 <= claim.hparams["y"] <= 1 for claim in claims)
    assert len({claim.hparams["x"] for claim in claims}) == 6
    assert study.claim() is None
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


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_one_worker_draws_what_optunas_sampler_draws(tmp_path, sampler):
    """Seeded anew for each trial, in a study in memory."""
    shared = opened(tmp_path, trials=12, sampler=sampler, startup_trials=4)
    run(shared)
    alone = optuna.create_study(direction="maximize")
    alone.enqueue_trial(START)
    for index in range(12):
        seed = 100 * 100_003 + index
        if sampler == "tpe":
            alone.sampler = optuna.samplers.TPESampler(n_startup_trials=4, multivariate=True, constant_liar=True, seed=seed)
        else:
            alone.sampler = optuna.samplers.RandomSampler(seed=seed)
        trial = alone.ask(SPACE)
        alone.tell(trial, score(trial.params))

    assert tried(shared) == [trial.params for trial in alone.trials]


def test_interruptions_change_nothing(tmp_path):
    """A study that is opened anew for every trial, of which two are lost, tries what an uninterrupted one tries."""
    run(opened(tmp_path / "whole"))
    for turn in range(8):
        study = opened(tmp_path / "torn")
        if turn in {0, 3}:
            study.claim()
            abandon(study)
        else:
            run(study, most=1)
    whole, torn = opened(tmp_path / "whole"), opened(tmp_path / "torn")

    assert torn.claim() is None
    assert tried(torn) == tried(whole)
    assert [outcome.state for _, outcome in torn.finished()].count("lost") == 2
    assert [slot_of(trial) for trial, _ in torn.finished()] == [0, 0, 1, 2, 2, 3, 4, 5]


def test_more_trials_go_on_from_where_it_was(tmp_path):
    """Neither the first ones nor their draws are repeated."""
    run(opened(tmp_path, trials=3))
    study = opened(tmp_path, trials=6)

    assert len(run(study)) == 3
    assert len({hparams["x"] for hparams in tried(study)}) == 6


def test_fewer_trials_end_it(tmp_path):
    """Those that were run stay."""
    run(opened(tmp_path, trials=6), most=4)
    study = opened(tmp_path, trials=3)

    assert study.claim() is None
    assert len(study.counted()) == 4


def at_once(functions):
    """Call them in threads that begin together; what they return, in their order."""
    barrier, found = threading.Barrier(len(functions)), {}

    def call(number):
        barrier.wait()
        found[number] = functions[number]()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return [found[number] for number in range(len(functions))]


def test_workers_share_the_trials(tmp_path):
    """Four begin a study at once: each trial once, exactly as many as asked for."""

    def work():
        study, claims = opened(tmp_path, trials=12), []
        while (claim := study.claim()) is not None:
            if claim == "wait":
                time.sleep(0.01)
                continue
            study.finish(claim, complete(claim))
            claims.append(claim)
        return claims

    claims = list(itertools.chain(*at_once([work] * 4)))

    assert sorted(claim.position for claim in claims) == list(range(1, 13))
    assert len({claim.hparams["x"] for claim in claims}) == 12
    assert [claim.position for claim in claims if claim.hparams == START] == [1]


def test_a_waiting_trial_is_one_workers(tmp_path):
    """Four ask for the same forty: the file is locked before a trial is looked at, which Optuna does not see to."""
    study = opened(tmp_path, trials=1)
    for _ in range(40):
        study.study.enqueue_trial({}, user_attrs={"slot": 0})
    waiting = study.study.get_trials()
    workers = [opened(tmp_path, trials=1) for _ in range(4)]
    mine = at_once([lambda one=one: [trial.number for trial in waiting if one._is_mine(trial)] for one in workers])

    assert sorted(itertools.chain(*mine)) == list(range(40))


def test_a_slot_that_two_have_filled_is_run_once(tmp_path):
    """Of two trials that wait in it the first is handed out, and the other is never begun."""
    study = opened(tmp_path, trials=2)
    for _ in range(2):
        study.study.enqueue_trial({}, user_attrs={"slot": 0})
    claims = run(study)

    assert [(claim.number, claim.position) for claim in claims] == [(0, 1), (2, 2)]
    assert [trial.number for trial, _ in study.finished()] == [0, 2]


def test_a_worker_waits_for_the_last_trials_of_others(tmp_path):
    """They may yet be lost, and be its own: without a sign of life for a minute."""
    one, other = opened(tmp_path, trials=2), opened(tmp_path, trials=2)
    first, second = one.claim(), other.claim()
    one.finish(first, complete(first))

    assert one.claim() == "wait"
    abandon(one)
    other.still_at(second)
    assert one.claim() == "wait"
    abandon(one)
    again = one.claim()
    assert again.hparams == second.hparams
    assert again.number == 2
    assert "silent for 60 s" in one.finished()[1][1].reason


def test_a_lost_trial_is_tried_again_as_it_was(tmp_path):
    """Though more is known by then, from which the sampler would draw other values."""
    one, other = opened(tmp_path, trials=8), opened(tmp_path, trials=8)

    def better_each_time(claim):
        return Outcome("complete", [float(claim.position)])

    run(one, better_each_time, most=3)
    lost = other.claim()
    run(one, better_each_time, most=3)
    abandon(one)
    again = one.claim()

    assert (again.position, again.number) == (lost.position, 7) == (4, 7)
    assert again.hparams == lost.hparams


def test_a_worker_that_was_taken_for_dead_is_told(tmp_path):
    """Its trial is another's by then, and its result counts for nothing."""
    late, study = opened(tmp_path, trials=1), opened(tmp_path, trials=1)
    first = late.claim()
    abandon(study)
    second = study.claim()

    with pytest.raises(LostError):
        late.still_at(first)
    late.finish(first, Outcome("complete", [99.0]))
    late.release(first)
    study.finish(second, complete(second))
    assert [outcome.state for _, outcome in study.finished()] == ["lost", "complete"]
    assert study.counted()[0].value == score(START)


def test_what_a_trial_has_told_counts_without_its_worker(tmp_path):
    """Its process tells the study itself; what the worker says of it afterwards changes nothing."""
    study = opened(tmp_path, trials=1)
    claim = study.claim()
    tell(study.study, claim, complete(claim))
    abandon(study)

    assert study.claim() is None
    study.finish(claim, None, -9)
    study.release(claim)
    assert [outcome.state for _, outcome in study.finished()] == ["complete"]


def test_a_worker_that_stops_gives_its_trial_back(tmp_path):
    """Nobody waits for it."""
    study = opened(tmp_path, trials=1)
    claim = study.claim()
    study.release(claim)
    again = study.claim()

    assert again.hparams == claim.hparams
    assert study.finished()[0][1] == Outcome("lost", reason="its worker was stopped")


class KilledError(BaseException):
    """As a signal: nothing handles it."""


def doomed(study, writes):
    """Work until about to write this for the so-manieth time; whether it came to that."""
    left = itertools.count(-writes)

    def before(_connection, _cursor, statement, *_):
        if statement.startswith(("INSERT", "UPDATE")) and next(left) == 0:
            raise KilledError

    sqlalchemy.event.listen(study.storage.engine, "before_cursor_execute", before)
    try:
        run(study)
    except KilledError:
        return True
    return False


def test_a_worker_may_be_killed_at_every_write(tmp_path):
    """Whatever it was about to write, the next one ends the study as if nothing had happened."""
    run(opened(tmp_path / "whole", trials=2))
    whole = tried(opened(tmp_path / "whole", trials=2))
    for writes in itertools.count():
        was_killed = doomed(opened(tmp_path / str(writes), trials=2), writes)
        study = opened(tmp_path / str(writes), trials=2)
        abandon(study)
        run(study)

        assert (tried(study), slots(study)) == (whole, [0, 1])
        assert study.claim() is None
        if not was_killed:
            break
    assert writes > 20


WORKER = """
import sys
from pathlib import Path
from tests.test_tuning_study import complete, opened

study = opened(Path(sys.argv[1]), trials=12)
while (claim := study.claim()) not in (None, "wait"):
    study.still_at(claim)
    study.finish(claim, complete(claim))
    print(claim.position, flush=True)
"""


def test_workers_are_killed_again_and_again(tmp_path):
    """Kill -9 of four at work, three times: then exactly twelve trials count, each once, and the file is whole."""
    study = opened(tmp_path, trials=12)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for done in (2, 5, 8):
        command = [sys.executable, "-c", WORKER, tmp_path]
        workers = [subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) for _ in range(4)]
        while len(study.counted()) < done and any(worker.poll() is None for worker in workers):
            time.sleep(0.01)
        for worker in workers:
            worker.kill()
        assert {worker.wait() for worker in workers} <= {0, -signal.SIGKILL}
        abandon(study)
    run(study)

    assert slots(study) == list(range(12))
    assert len({hparams["x"] for hparams in tried(study)}) == 12
    with study.storage.engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"


def test_a_trial_that_is_killed_again_and_again_has_failed(tmp_path):
    """Twice it is tried anew, with the same values; the third time it counts, with a reason."""
    study = opened(tmp_path, trials=1)
    for _ in range(3):
        claim = study.claim()
        assert claim.hparams == START
        study.finish(claim, None, -9)
    (last,) = study.counted()

    assert [outcome.state for _, outcome in study.finished()] == ["lost", "lost", "failed"]
    assert outcome_of(last).reason == "its process was killed (signal 9), 3 times; it may want more memory than there is"


def test_failures_count_and_the_study_goes_on(tmp_path):
    """Until all of the first three have failed: then it is given up, with the first cause."""
    some, none = opened(tmp_path / "some"), opened(tmp_path / "none")

    def now_and_then(claim):
        return Outcome("failed", reason="loss is not finite") if claim.position % 2 else complete(claim)

    def never(claim):
        return Outcome("failed", reason=f"cause {claim.position}")

    assert len(run(some, now_and_then)) == 6
    assert some.study.get_trials()[0].state == TrialState.FAIL
    with pytest.raises(
        ValueError, match=r"all 3 trials of the study in .* have failed, the first with: cause 1; .* \{study: default_2\}"
    ):
        run(none, never)


def test_the_budget_of_time(tmp_path):
    """Two seconds a trial: none is begun once five are spent, though eight trials were asked for."""
    study = opened(tmp_path, trials=8, max_hours=5 / 3600)

    assert len(run(study)) == 3


@pytest.mark.parametrize(
    ("space", "said"),
    [
        ({**SPACE, "x": FloatDistribution(0.1, 20.0, log=True)}, r"x \(0\.1 to 10, log then, 0\.1 to 20, log now\)"),
        ({"x": SPACE["x"]}, r"y \(0 to 1, linear then, not searched now\)"),
        ({**SPACE, "z": FloatDistribution(0.0, 1.0)}, r"z \(not searched then, 0 to 1, linear now\)"),
    ],
)
def test_a_space_that_has_changed(tmp_path, space, said):
    """Says which, and offers another name."""
    run(opened(tmp_path), most=1)
    with pytest.raises(ValueError, match=said) as caught:
        opened(tmp_path, space)

    assert "begin a new study: tuning: {study: default_2} in params.yaml" in str(caught.value)


def test_a_database_that_cannot_be_used(tmp_path, monkeypatch):
    """One line: what is the matter, and where it is said what may be set; no password."""

    def said():
        with pytest.raises(ValueError, match="cannot be used") as caught:
            opened(tmp_path)
        line = str(caught.value)
        assert line.endswith("; see README, Settings, OPTUNA_STORAGE")
        assert "secret" not in line
        assert "\n" not in line
        return line

    file = storage.file_in(tmp_path)
    file.write_text("no database, but long enough for one\n" * 100)
    assert said().startswith(f"the study in {file} cannot be used: (sqlite3.DatabaseError) file is not a database")
    file.unlink()
    study = opened(tmp_path)
    with study.storage.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = 'v99.0.0.a'")
    assert "is no longer compatible with the table schema" in said()
    for url, reason in {
        "sqlite:////nowhere/secret/study.db": "unable to open database file",
        "no-url:secret": "URL",
        "postgresql://me:secret@host:port/studies": "'port'",
        "mysql+cymysql://me:secret@127.0.0.1:1/studies": "No module named 'cymysql'",
    }.items():
        monkeypatch.setenv("OPTUNA_STORAGE", url)
        assert reason in said()


def test_a_trials_process_opens_the_study_without_a_warning(tmp_path):
    """Optuna has one for heartbeats, which would stand among the lines of every trial."""
    opened(tmp_path)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        storage.storage_at(tmp_path)

    assert not caught


def test_a_database_that_goes_away(tmp_path):
    """In one line, too."""
    study = opened(tmp_path)
    with study.storage.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE trials")

    with (
        pytest.raises(ValueError, match=r"cannot be used: \(sqlite3.OperationalError\) no such table: trials; see"),
        storage.explained(tmp_path),
    ):
        study.claim()


def test_a_database_for_several_hosts(tmp_path, monkeypatch):
    """It has a study whatever the folder that a host sees, told apart from others by name."""
    monkeypatch.setenv("OPTUNA_STORAGE", f"sqlite:///{tmp_path / 'server.db'}")
    one, other = opened(tmp_path / "here"), opened(tmp_path / "there")
    first, second = one.claim(), other.claim()

    assert (first.position, second.position) == (1, 2)
    assert one.place == "the database of OPTUNA_STORAGE"
    assert not storage.file_in(tmp_path / "here").exists()


KILLED_WRITING = """
import os, sys
from pathlib import Path
from pipelines.tuning.storage import storage_at

with storage_at(Path(sys.argv[1])).engine.begin() as connection:
    connection.exec_driver_sql("DELETE FROM trials")
    os.kill(os.getpid(), 9)
"""


def test_a_lock_on_the_file_goes_with_its_process(tmp_path):
    """A worker that is killed while it writes keeps nobody from going on, and leaves nothing half written."""
    study = opened(tmp_path)
    run(study, most=2)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", KILLED_WRITING, tmp_path], env=environment, check=False)

    assert done.returncode == -signal.SIGKILL
    assert len(run(study)) == 4
    assert slots(study) == list(range(6))


def test_two_objectives(tmp_path):
    """The front is what no other trial betters in both; made by hand from four trials."""
    made = iter([(5.0, 10.0), (6.0, 20.0), (4.0, 15.0), (6.5, 30.0)])
    study = opened(tmp_path, trials=4, objectives=["score", "train_s"])
    run(study, lambda _: Outcome("complete", list(next(made)), [], 5, 5, 1.0, 2.0))

    assert study.front() == [0, 1, 3]


def test_importance(tmp_path):
    """All of it is x's where the score is x's alone; None from three trials, or where all scores are equal."""
    study, few, flat = (
        opened(tmp_path / "a", trials=30, sampler="random"),
        opened(tmp_path / "b", trials=3),
        opened(tmp_path / "c"),
    )
    run(study, lambda claim: Outcome("complete", [claim.hparams["x"]]))
    run(few)
    run(flat, lambda _: Outcome("complete", [1.0]))
    found = study.importance()

    assert sum(found.values()) == pytest.approx(1, abs=1e-3)
    assert found["x"] > 0.9
    assert few.importance() is flat.importance() is None


def test_a_pruned_trial_counts_and_is_never_the_best(tmp_path):
    """Its last report is no result."""
    study = opened(tmp_path, trials=2)
    first, second = study.claim(), study.claim()
    study.finish(first, complete(first))
    study.storage.set_trial_intermediate_value(second.trial_id, 1, 99.0)
    study.finish(second, Outcome("pruned", None, [(1, 99.0)], 1, 5, 1.0, 1.0))

    assert len(study.counted()) == 2
    assert study.front() == [0]
    assert study.claim() is None
