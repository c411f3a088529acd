"""Stage ``tune`` as a user runs it: real processes, real DVC and MLflow, kill -9; tier smoke.

Smoke students find nothing, so where scores must differ a project's own copy of the code has another one: see ``tuned``.
"""

import contextlib
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time

import psutil
import pytest
import yaml

from reports.schemas.run import Run
from reports.schemas.study import Study
from tests.conftest import PAIR, edit_yaml, read, run_stage, tuning

pytestmark = pytest.mark.slow

CELL = f"runs/smoke/{PAIR}/mgd"
WORK = f"work/smoke/{PAIR}/mgd/tuning"
REPRO = ("dvc", "repro", "--single-item", f"tune@{PAIR}/mgd")
MEASURED = "next((float(point[key]) for key in self._keys if key in point), 0.0)"
TOLD_APART = """100 * next(one.share_masked for one in runner.model.modules() if hasattr(one, "share_masked")) + (
                float(sum(parameter.detach().double().abs().sum() for parameter in runner.model.parameters())) % 1)"""


def command(out):
    """The stage's command line, outside of DVC."""
    return "pipelines.stages.tune", "--tier", "smoke", "--pair", PAIR, "--method", "mgd", "--out", out


def ask(project, **changes):
    """Other wishes in params.yaml, which stage check has seen, and what else was edited with them."""
    edit_yaml(project / "params.yaml", tuning=tuning(**changes))
    done = run_stage(project, "pipelines.stages.check")
    assert done.returncode == 0, done.stdout + done.stderr


def edit_code(path, before, after):
    """Change a project's own copy of a file."""
    code = path.read_text()
    assert code.count(before) == 1, path
    path.write_text(code.replace(before, after))


@contextlib.contextmanager
def started(project, *arguments):
    """A command in the background, its output in log.txt; killed at the end if need be, with all that is left in the project."""
    environment = {**os.environ, "CI": "1", "PATH": f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"}
    # Without it DVC runs stages in /bin/sh, which need not replace itself by the stage as bash does.
    environment.pop("SHELL", None)
    with (project / "log.txt").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", *arguments], cwd=project, env=environment, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()
            for one in left_over(project):
                one.kill()


def left_over(project):
    """Processes that are at work in a project."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.cwd().startswith(str(project)) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def waited(found, within_s=240):
    """The first true answer."""
    deadline = time.monotonic() + within_s
    while not (answer := found()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return answer


def holder(lock):
    """The process that holds a training's folder, as its lock names it."""
    named = re.match(r"process (\d+) ", lock.read_text())
    return int(named[1]) if named else None


def in_training(project, *besides):
    """Wait until a trial has trained two epochs of its ten: its folder's name and its process."""

    def found():
        for lock in (project / WORK / "trials").glob("*/lock"):
            epochs = [int(path.stem.partition("_")[2]) for path in lock.parent.glob("epoch_*.pth")]
            if lock.parent.name not in besides and max(epochs, default=0) >= 2:
                return lock.parent.name, holder(lock)
        return None

    return waited(found)


def noted(project, study, whose):
    """Number of a trial -> id of its ``owner`` (the worker) or its ``process``, as the journal has them."""
    (journal,) = (project / WORK).glob(f"{study}-*/journal.log")
    found = re.findall(rf'"trial_id":(\d+),"user_attr":{{"{whose}":{{"host":"[^"]*","pid":(\d+)', journal.read_text())
    return {int(trial): int(process) for trial, process in found}


@pytest.fixture(scope="module")
def tuned(finished, tmp_path_factory):
    """A project without its test split; a trial's score is its masked share, with a digest of its weights behind the point.

    Study ``killed`` was: first a trial's process; then DVC, with the second trial.  Study ``whole`` was not.
    """
    target = tmp_path_factory.mktemp("tuned") / "project"
    shutil.copytree(finished, target, symlinks=True)
    for path in (target / "data/smoke").glob("test*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    edit_code(target / "pipelines/engine/trial_schedule.py", MEASURED, TOLD_APART)
    tier = target / "benchmarks/tiers/smoke.yaml"
    edit_yaml(tier, schedule={**yaml.safe_load(tier.read_text())["schedule"], "student_epochs": 10})
    ask(target, trials=4, study="killed")
    with started(target, *REPRO) as dvc:
        first, process = in_training(target)
        os.kill(process, signal.SIGKILL)
        _, process = in_training(target, first)
        dvc.kill()
        os.kill(process, signal.SIGKILL)
        dvc.wait()
        assert waited(lambda: not left_over(target), within_s=30)
    shutil.copy(target / "log.txt", target / "killed.txt")
    done = run_stage(target, *REPRO)
    assert done.returncode == 0, done.stdout + done.stderr
    with (target / "killed.txt").open("a") as log:
        log.write(done.stdout)
    ask(target, trials=4, study="whole")
    done = run_stage(target, *command("whole"))
    assert done.returncode == 0, done.stdout + done.stderr
    return target


@pytest.fixture(scope="module")
def shared(tuned):
    """In the same project two workers on a study, one of which was killed; with the recipe's alpha the loss is no number."""
    edit_code(
        tuned / "methods/mgd.py",
        'return {"loss_mgd": self.alpha * ',
        'import time; time.sleep(0.5); return {"loss_mgd": (self.alpha if self.alpha != 0.0853 else float("nan")) * ',
    )
    ask(tuned, trials=4, study="shared", workers=2)
    with started(tuned, *command("shared")) as stage:
        assert waited(lambda: list((tuned / WORK).glob("shared-*/journal.log")))

        def helping():
            """The other worker, once its trial trains: while it writes to the journal it has better not be killed, see test_tune_ends."""
            processes, held = noted(tuned, "shared", "process"), (tuned / WORK / "trials").glob("*/lock")
            training = {holder(lock) for lock in held}
            workers = noted(tuned, "shared", "owner")
            return {pid for number, pid in workers.items() if pid != stage.pid and processes.get(number, 0) in training}

        (helper,) = waited(helping)
        assert "--join" in psutil.Process(helper).cmdline()
        os.kill(helper, signal.SIGKILL)
        code = stage.wait(timeout=300)
        (tuned / "killed_helper.txt").write_text(str(helper))
        assert code == 0, (tuned / "log.txt").read_text()
        assert waited(lambda: not left_over(tuned), within_s=10)
    return tuned


def test_best_is_what_the_study_says(finished):
    """Counted, added up and chosen by hand from study.json; the recipe's values come first."""
    study = read(finished / CELL / "tuned/study.json")
    best = yaml.safe_load((finished / CELL / "tuned/best.yaml").read_text())
    trials = study["trials"]
    complete = [trial for trial in trials if trial["state"] == "complete"]
    highest = max(trial["values"][0] for trial in complete)
    chosen = min((trial for trial in complete if trial["values"][0] == highest), key=lambda trial: trial["number"])

    assert Study(**study).status == best["status"] == "done"
    assert (best["trial"], best["hparams"], best["score"]) == (chosen["number"], chosen["hparams"], highest)
    assert trials[0]["is_recipe"]
    assert trials[0]["hparams"] == study["recipe_hparams"] == {
        "alpha": pytest.approx(2.0e-5 * 256 * 22400 / (16 * 84), rel=1e-3), "share_masked": 0.65,
    }  # fmt: skip
    assert best["recipe_score"] == trials[0]["values"][0]
    assert best["num_trials"] == {
        state: sum(trial["state"] == state for trial in trials) for state in ("complete", "pruned", "failed")
    }
    assert sum(best["num_trials"].values()) == 3
    assert best["iterations"] == sum(trial["iterations"] for trial in trials)
    assert [trial["reports"][-1][0] for trial in complete] == [study["full_iterations"]] * len(complete) == [2] * len(complete)


def test_tuned_student_has_what_was_found(finished):
    """All else is as in the published run; the config is the same exactly if the hyper-parameters are."""
    published, tuned = (Run(**read(finished / CELL / name / "run.json")) for name in ("seed0", "tuned/seed0"))
    best = yaml.safe_load((finished / CELL / "tuned/best.yaml").read_text())

    assert (published.variant, tuned.variant) == ("published", "tuned")
    assert tuned.hparams == {**published.hparams, **best["hparams"]}
    assert (tuned.config_sha256 == published.config_sha256) is (tuned.hparams == published.hparams)
    assert (tuned.seed, tuned.data, tuned.teacher_sha256) == (published.seed, published.data, published.teacher_sha256)
    assert re.search(
        r"alpha, share_masked tuned on the tune split \(trial \d of study default: 3 complete\)", tuned.hparams_origin
    )


def test_kills_change_nothing(tuned):
    """Each trial counts once, with the values, scores and reports to the last bit of a study that nobody disturbed."""
    killed, whole = (Study(**read(tuned / folder / "study.json")) for folder in (f"{CELL}/tuned", "whole"))
    bests = [yaml.safe_load((tuned / folder / "best.yaml").read_text()) for folder in (f"{CELL}/tuned", "whole")]
    tried = [[(t.hparams, t.state, t.values, t.reports, t.iterations) for t in study.counted] for study in (killed, whole)]
    lost = [trial for trial in killed.trials if trial.state == "lost"]
    text = (tuned / "killed.txt").read_text()

    assert tried[0] == tried[1]
    assert len({str(trial.hparams) for trial in whole.trials}) == len(whole.trials) == 4
    assert [trial.hparams for trial in lost] == [trial.hparams for trial in whole.trials[:2]]
    assert lost[0].reason == "its process was killed (signal 9)"
    assert "was killed" in lost[1].reason
    assert len(re.findall(r"resumes after iteration \d+", text)) == 2
    for best in bests:
        del best["study"], best["trial"], best["front"]  # numbers count lost trials
    assert bests[0] == bests[1]


def test_a_trial_below_the_median_is_pruned(tuned):
    """Once three are complete: where its first report is below the median of theirs; the last report prunes nothing."""
    whole, complete = Study(**read(tuned / "whole/study.json")), []
    for trial in whole.trials:
        first = trial.reports[0][1]
        is_low = len(complete) >= 3 and first < statistics.median(complete)
        if not is_low:
            complete.append(first)

        assert trial.state == ("pruned" if is_low else "complete")
        assert [iteration for iteration, _ in trial.reports] == ([10] if is_low else [10, 20])
        assert (trial.iterations, trial.values) == ((10, None) if is_low else (20, [trial.reports[-1][1]]))
        assert int(first) == int(100 * trial.hparams["share_masked"])
    assert len(complete) < len(whole.trials)  # else another seed is wanted


def test_the_test_split_is_not_read(tuned):
    """The studies above had none; a training that is reported checks all data and refuses."""
    done = run_stage(tuned, "pipelines.stages.distill", "--tier", "smoke", "--cell", f"{PAIR}/mgd/tuned/seed0", "--out", "out")

    assert not list((tuned / "data/smoke").glob("test*"))
    assert done.returncode == 2
    assert re.search(
        r"^error: data/smoke/test\S+ is missing \(and \d+ more\); make the data set again", done.stderr, re.MULTILINE
    )


def test_two_workers_share_a_study(shared):
    """Exactly as many trials count as were asked for, each once, though the worker that lent a hand was killed in one."""
    study = Study(**read(shared / "shared/study.json"))
    workers, helper = noted(shared, "shared", "owner"), int((shared / "killed_helper.txt").read_text())
    helped = [trial.hparams for trial in study.trials if workers[trial.number] == helper]

    assert len(study.counted) == len({str(trial.hparams) for trial in study.counted}) == 4
    assert [trial.number for trial in study.trials] == list(range(len(study.trials)))
    assert len(set(workers.values())) == 2
    assert len(helped) == 1
    assert helped[0] in [trial.hparams for trial in study.counted]


def test_a_loss_that_is_no_number_fails_a_trial(shared):
    """The reason is on record, the study goes on without the recipe's score."""
    study, best = Study(**read(shared / "shared/study.json")), yaml.safe_load((shared / "shared/best.yaml").read_text())
    failed = [trial for trial in study.trials if trial.state == "failed"]

    assert [trial.is_recipe for trial in failed] == [True]
    assert "loss_mgd is not finite at iteration 1" in failed[0].reason
    assert best["num_trials"]["failed"] == 1
    assert best["hparams"] != study.recipe_hparams
    assert "recipe_score" not in best


def test_mlflow_has_a_run_a_study_and_one_a_trial(shared, monkeypatch):
    """Children name their parent and end as their trials did; the parent has the record and the pictures."""
    monkeypatch.chdir(shared)
    from mlflow import MlflowClient  # noqa: PLC0415

    client = MlflowClient(f"sqlite:///{shared}/mlflow/mlflow.db")
    experiment = client.get_experiment_by_name("kd-smoke").experiment_id
    runs = client.search_runs([experiment])
    ends = {"complete": "FINISHED", "pruned": "KILLED", "failed": "FAILED"}
    seen = set()
    for name, folder in {"killed": f"{CELL}/tuned", "whole": "whole", "shared": "shared"}.items():
        study = Study(**read(shared / folder / "study.json"))
        (parent,) = (run for run in runs if run.data.params.get("study") == name)
        children = {run.info.run_id: run for run in runs if run.data.tags.get("mlflow.parentRunId") == parent.info.run_id}

        assert parent.info.run_id == study.mlflow_run_id
        assert (parent.info.status, parent.info.run_name) == ("FINISHED", f"mgd study | {PAIR}")
        assert {trial.mlflow_run_id for trial in study.counted} == set(children)
        for trial in study.counted:
            run = children[trial.mlflow_run_id]
            seen.add(trial.state)
            assert (run.info.status, run.data.tags["state"]) == (ends[trial.state], trial.state)
            assert {key: float(run.data.params[f"hparams.{key}"]) for key in trial.hparams} == pytest.approx(trial.hparams)
            assert run.data.metrics.get("score") == (trial.reports[-1][1] if trial.reports else None)
        artifacts = {file.path for file in client.list_artifacts(parent.info.run_id)}
        assert {"study.json", "journal.log"} <= artifacts
        assert any(path.endswith(".svg") for path in artifacts)
    assert seen == set(ends)
