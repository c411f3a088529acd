"""The commit of a record, and what is said where git names none: repositories made here, in every odd state."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from pipelines.engine.provenance import environment
from pipelines.git_state import git_state
from reports.formats.html import page
from reports.formats.markdown import markdown
from reports.formats.wording import code_marks, device
from reports.schemas.leaderboard import Leaderboard
from reports.schemas.run import Git
from tests.boards import board, result

KEPT = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}  # fmt: skip


def git(*arguments, at="."):
    """Run git; its output."""
    return subprocess.run(["git", *arguments], cwd=at, capture_output=True, text=True, check=True).stdout.strip()


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    """An empty folder, in no repository; no configuration of the machine's."""
    for name, value in KEPT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    monkeypatch.setenv("KD_GIT_WARNED", "")
    monkeypatch.delenv("KD_GIT_WARNED")
    (tmp_path / "project").mkdir()
    monkeypatch.chdir(tmp_path / "project")


def commit(at="."):
    """A repository with one commit; its id."""
    git("init", "-q", at=at)
    Path(at, "code.py").touch()
    git("add", "-A", at=at)
    git("commit", "-qm", "one", at=at)
    return git("rev-parse", "HEAD", at=at)


def test_a_commit_that_no_remote_has():
    """Named, clean, and marked as not pushed."""
    head = commit()

    assert git_state() == Git(commit=head, dirty=False, pushed=False)


def test_a_copy_has_the_commit_of_its_checkout(tmp_path, monkeypatch, capsys):
    """As the small grid's, below the checkout's own folder: the commit, whether it is changed, and no warning."""
    head = commit()
    monkeypatch.setenv("KD_COPIED_FROM", str(tmp_path / "project"))
    Path("work/quick").mkdir(parents=True)
    monkeypatch.chdir("work/quick")
    clean = git_state()
    (tmp_path / "project/code.py").write_text("b")

    assert (clean, git_state()) == (Git(commit=head, dirty=False, pushed=False), Git(commit=head, dirty=True, pushed=False))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "name", ["leaderboard.json", "runs.csv", "curves.csv", "metrics.json", "evidence.md", "figures/scores.svg"]
)
def test_a_new_report_changes_no_code(name):
    """Every file of a report that git has."""
    path = Path("reports/mini", name)
    path.parent.mkdir(parents=True)
    path.write_text("a")
    head = commit()
    path.write_text("b")

    assert git_state() == Git(commit=head, dirty=False, pushed=False)


def test_changed_files_and_those_that_runs_write():
    """A tracked file makes it dirty; dvc.lock and new files do not."""
    for name in ("dvc.lock", "artefacts.lock"):
        Path(name).write_text("a")
    head = commit()
    for name in ("dvc.lock", "artefacts.lock", "new.py"):
        Path(name).write_text("b")
    assert git_state() == Git(commit=head, dirty=False, pushed=False)

    Path("code.py").write_text("b")
    assert git_state() == Git(commit=head, dirty=True, pushed=False)


def test_a_pushed_commit_and_one_on_top(tmp_path):
    """A clone's commit is its remote's; the next one is not, until it is pushed."""
    head = commit(tmp_path / "project")
    git("clone", "-q", "--bare", tmp_path / "project", tmp_path / "bare")
    git("clone", "-q", tmp_path / "bare", tmp_path / "clone")
    os.chdir(tmp_path / "clone")
    assert git_state() == Git(commit=head, dirty=False, pushed=True)

    git("commit", "-q", "--allow-empty", "-m", "two")
    assert git_state().pushed is False
    git("push", "-q", "origin", "HEAD")
    assert git_state().pushed is True


@pytest.mark.parametrize("tag", [False, True])
def test_a_shallow_clone_with_a_detached_head(tmp_path, tag):
    """As of a depth of one, by branch or by tag: fine."""
    head = commit(tmp_path / "project")
    git("tag", "v1")
    branch = git("rev-parse", "--abbrev-ref", "HEAD")
    git("clone", "-q", "--depth", "1", "--branch", "v1" if tag else branch, f"file://{tmp_path}/project", tmp_path / "clone")
    os.chdir(tmp_path / "clone")
    git("checkout", "-q", "--detach")

    assert git_state() == Git(commit=head, dirty=False, pushed=True)


def test_worktrees_and_paths_with_blanks_are_repositories_of_their_own(tmp_path):
    """A linked work tree in an odd folder names its commit."""
    head = commit(tmp_path / "project")
    git("worktree", "add", "-q", "--detach", tmp_path / "a b#c%20\u00e9")
    os.chdir(tmp_path / "a b#c%20\u00e9")

    assert git_state().commit == head


def unknown(capsys):
    """The reason of the one warning; the record has it, without a folder of this machine."""
    found = git_state()
    again = git_state()
    said = capsys.readouterr()

    assert (found.commit, found.dirty, found.pushed) == (None, None, None)
    assert again == found
    assert said.out == ""
    (reason,) = re.fullmatch(r"warning: the records will name no commit: ([^\n]+)\n", said.err).groups()
    assert found.why_unknown == reason.replace(os.getcwd(), "<checkout>")
    assert os.path.dirname(os.getcwd()) not in found.why_unknown
    return reason


def test_without_git(monkeypatch, capsys, tmp_path):
    """Not installed."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert "git is not installed" in unknown(capsys)


def test_without_a_repository(capsys, tmp_path):
    """A release's archive; the remedy is named."""
    assert unknown(capsys) == (
        f"{tmp_path}/project has no .git, as a release's archive has none; git init && git add -A && git commit -m import"
    )


def test_inside_another_repository(capsys, tmp_path):
    """Its commit is not the project's."""
    commit(tmp_path)

    assert "the repository around it, .., is another one" in unknown(capsys)


def test_another_repository_by_environment(monkeypatch, capsys, tmp_path):
    """GIT_DIR of a hook, or of a shell, is not the project's."""
    (tmp_path / "other").mkdir()
    commit(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other/.git"))

    assert "has no .git" in unknown(capsys)


def test_no_commit_yet(capsys):
    """A HEAD that is not born."""
    git("init", "-q")

    assert "has no commit yet" in unknown(capsys)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_dubious_ownership(capsys, tmp_path):
    """Another user's checkout: git's words, and the remedy."""
    commit()
    for folder, names, files in os.walk(tmp_path / "project"):
        for name in (*names, *files):
            os.chown(os.path.join(folder, name), 12345, 12345)
    os.chown(tmp_path / "project", 12345, 12345)
    why = unknown(capsys)

    assert "dubious ownership" in why
    assert f"git config --global --add safe.directory '{tmp_path}/project'" in why


def test_a_damaged_repository(capsys):
    """Whatever git says, in one line."""
    commit()
    Path(".git/HEAD").write_text("nonsense\n")

    assert "\n" not in unknown(capsys)


def test_old_records_load_and_are_written_as_they_were():
    """Without the new marks."""
    old = Git.model_validate({"commit": "c", "dirty": False})

    assert old.model_dump() == {"commit": "c", "dirty": False}


def test_the_report_has_the_marks(tmp_path):
    """In words: commits that no remote had, and why some runs name none."""
    runs = [
        result("box AP", 1.0, git=Git(commit="c" * 40, dirty=False, pushed=False)).run,
        result("box AP", 1.0, git=Git(commit=None, dirty=None, why_unknown="git is not installed")).run,
    ]
    found = board(runs=runs)
    marks = f"; no remote had {'c' * 10}; some runs name no commit: git is not installed"

    assert code_marks(found) == marks
    assert marks in markdown(found)
    assert marks in page([found], tmp_path)
    assert code_marks(board()) == ""
    assert "unpushed" not in board().model_dump_json()
    assert Leaderboard.model_validate_json(found.model_dump_json()) == found


def test_the_report_names_every_kind_of_processor(tmp_path):
    """With its number of runs, the most first, and what differs between them; one alone is named without."""
    known = environment()
    kinds = ["CPU b", "CPU a", "CPU a"]
    runs = [result("box AP", 1.0, environment=known.model_copy(update={"device": kind})).run for kind in kinds]
    found, alone = board(runs=runs), board(runs=runs[1:])
    named = "CPU a (2 runs) and CPU b (1 run); the same seed gives other digits on another kind of processor"

    assert device(found) == named
    assert all(named in text for text in (markdown(found), page([found], tmp_path)))
    assert device(alone) == "CPU a"
    assert "devices" not in alone.model_dump_json()
    assert Leaderboard.model_validate_json(found.model_dump_json()) == found
