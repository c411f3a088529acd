"""One DVC of ``make repro``: ``python -m pipelines.job [--idle] STAGE ...``.

It is ``dvc repro --single-item``, and three things shorter.  A stage's process is forked from one that has MMLab imported
(:mod:`pipelines.warm`), where there is one.  dvc.lock is read by libyaml before it is written, not by the parser that
keeps comments, of which it has none: with some hundred stages that takes longer than a short stage.  And stages that only
write down that there is nothing to do (``--idle``) are run by one DVC, which writes dvc.lock once, after the last.
What is written is the same, byte for byte; but dvc.lock is replaced, not written in place (:mod:`pipelines.lockfile`).
"""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipelines import cli, lockfile, warm
from pipelines.lifeline import die_with_parent


def read_lock_fast() -> None:
    """Let DVC parse dvc.lock by libyaml where it is about to change it."""
    from dvc.utils.serialize import _yaml  # noqa: PLC0415 (half a second, as below)

    keep_comments = _yaml.parse_yaml_for_update

    def parse(text: str, path: str) -> Any:
        return (_yaml.parse_yaml if Path(path).name == "dvc.lock" else keep_comments)(text, path)

    _yaml.parse_yaml_for_update = parse


def write_lock_whole() -> None:
    """Let DVC write dvc.lock beside it and rename it, for whatever command; other files as ever."""
    from dvc.utils.serialize import _common, _yaml  # noqa: PLC0415

    in_place = _common._dump_data  # noqa: SLF001 (what DVC writes every YAML file by)

    def dump(path: str, data: Any, dumper: Callable[..., Any], fs: Any = None, **arguments: Any) -> None:
        if Path(path).name == "dvc.lock":
            lockfile.replace(path, lambda stream: dumper(data, stream, **arguments))
        else:
            in_place(path, data, dumper, fs=fs, **arguments)

    _common._dump_data = _yaml._dump_data = dump  # noqa: SLF001 (to change, and to replace)


def fork_stages(server: warm.Connection) -> None:
    """Let DVC hand ``exec python -m pipelines.X ...`` to the process that forks; other commands run as ever."""
    from dvc.stage import run  # noqa: PLC0415
    from dvc.stage.exceptions import StageCmdFailedError  # noqa: PLC0415

    start: Callable[..., None] = run._run  # noqa: SLF001 (what DVC starts a stage's shell by)

    def start_warm(executable: str | None, cmd: str, **kwargs: Any) -> None:
        words = shlex.split(cmd)
        is_ours = words[:3] == ["exec", "python", "-m"] and Path(kwargs["cwd"]) == Path.cwd()
        code = server.run(words[3], words[4:], kwargs["env"]) if is_ours else None
        if code is None:
            start(executable, cmd, **kwargs)
        elif code:
            raise StageCmdFailedError(cmd, code)

    run._run = start_warm  # noqa: SLF001


def run_idle(names: list[str]) -> None:
    """Run those of the stages that are stale; what ran before one that fails is in dvc.lock, too."""
    from dvc.repo import Repo  # noqa: PLC0415

    with Repo(_wait_for_lock=True) as repo, repo.lock:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        done = []
        try:
            for name in names:
                if stages[name].reproduce() is not None:
                    done.append(stages[name])  # noqa: PERF401 (kept where a later one fails)
        finally:
            if done:
                done[0].dvcfile.dump_stages(done, update_pipeline=False)


def main() -> None:
    """Run the stages that are stale."""
    die_with_parent()
    read_lock_fast()
    write_lock_whole()
    if server := warm.connection():
        fork_stages(server)
    if sys.argv[1] == "--idle":
        run_idle(sys.argv[2:])
    else:
        from dvc.cli import main as dvc  # noqa: PLC0415

        sys.exit(dvc(["--wait-for-lock", "repro", "--single-item", *sys.argv[1:]]))


if __name__ == "__main__":
    cli.run(main)
