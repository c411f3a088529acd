"""State of the code by git, for records: its commit, or why that is not known."""

import os
import subprocess
import sys
from pathlib import Path

from reports.schemas.run import Git

# What a run itself rewrites; a change of these alone is no change of the code.
_WRITTEN_BY_RUNS = (":!dvc.lock", ":!artefacts.lock", *(f":!reports/*/{name}" for name in (
    "leaderboard.*", "runs.csv", "curves.csv", "metrics.json", "evidence.md", "figures/*",
)))  # fmt: skip
COPIED_FROM = "KD_COPIED_FROM"  # in the environment of what runs in a copy: the checkout that its code is from
_WARNED = "KD_GIT_WARNED"  # in the environment of what a command starts: it has warned already
_REMEDY = "git init && git add -A && git commit -m import"
_TIMEOUT_S = 60.0


class _UnknownError(Exception):
    """Git does not say; the message is a sentence's end."""


def git_state() -> Git:
    """Return commit, changed files, and whether some remote has the commit; a warning, once per command, where git does not say."""
    try:
        return _state()
    except _UnknownError as error:
        if _WARNED not in os.environ:
            os.environ[_WARNED] = "yes"
            print(f"warning: the records will name no commit: {error}", file=sys.stderr, flush=True)
        # Records are shared: no folder of this machine stays in them.
        return Git(commit=None, dirty=None, why_unknown=str(error).replace(str(_here()), "<checkout>"))


def _state() -> Git:
    top = Path(_git("rev-parse", "--show-toplevel"))
    here = _here()
    if not _same(top, here):
        around = os.path.relpath(top, here)
        raise _UnknownError(f"{here} has no .git of its own, and the repository around it, {around}, is another one; {_REMEDY}")
    try:
        commit = _git("rev-parse", "--verify", "HEAD^{commit}")
    except _UnknownError as error:
        raise _UnknownError(f"{here} has no commit yet; git add -A && git commit") from error
    changed = _git("status", "--porcelain", "--untracked-files=no", "--", ":/", *_WRITTEN_BY_RUNS)
    return Git(commit=commit, dirty=bool(changed), pushed=_is_pushed(commit))


def _is_pushed(commit: str) -> bool | None:
    """Return True if a branch of a remote has the commit, as far as was fetched; of a shallow clone, which may have none, also a tag."""
    refs = ["refs/remotes", *(["refs/tags"] if _git("rev-parse", "--is-shallow-repository") == "true" else [])]
    try:
        return bool(_git("for-each-ref", "--count=1", "--contains", commit, *refs))
    except _UnknownError:  # a history with holes
        return None


def _here() -> Path:
    """Folder whose state is recorded."""
    return Path(os.environ.get(COPIED_FROM) or Path.cwd())


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:
        return False


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", *arguments], capture_output=True, text=True, errors="replace", check=False, timeout=_TIMEOUT_S,
            env=_environment(), cwd=_here(),
        )  # fmt: skip
    except FileNotFoundError as error:
        raise _UnknownError("git is not installed; install it and run again") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _UnknownError(f"git cannot be run ({' '.join(str(error).split())})") from error
    if done.returncode:
        raise _UnknownError(_why(done.stderr))
    return done.stdout.strip()


def _environment() -> dict[str, str]:
    """Environment in which git speaks English and does not look at another repository than this folder's."""
    kept = {name: value for name, value in os.environ.items() if name not in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE")}
    return {**kept, "LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0"}


def _why(said: str) -> str:
    """Return git's reason in a sentence with the remedy."""
    lines = [line.strip().removeprefix("fatal: ") for line in said.splitlines() if line.strip()]
    reason = lines[0] if lines else "it gave no reason"
    if "not a git repository" in reason:
        return f"{_here()} has no .git, as a release's archive has none; {_REMEDY}"
    if "dubious ownership" in reason:
        return f"git says: {reason}; git config --global --add safe.directory '{_here()}'"
    return f"git says: {reason}"
