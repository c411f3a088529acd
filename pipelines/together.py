"""Stages that only write down that there is nothing to do, run by one DVC: ``python -m pipelines.together STAGE ...``.

``dvc repro`` reads and writes all of dvc.lock after each stage, which takes longer than such a stage does; here it is
written once, after the last.
"""

import sys

from pipelines import cli
from pipelines.lifeline import die_with_parent


def main() -> None:
    """Run those of the stages that are stale; what ran before one that fails is in dvc.lock, too."""
    die_with_parent()
    from dvc.repo import Repo  # noqa: PLC0415 (a second)

    with Repo(_wait_for_lock=True) as repo, repo.lock:
        stages = {stage.addressing: stage for stage in repo.index.stages}
        done = []
        try:
            for name in sys.argv[1:]:
                if stages[name].reproduce() is not None:
                    done.append(stages[name])  # noqa: PERF401 (kept where a later one fails)
        finally:
            if done:
                done[0].dvcfile.dump_stages(done, update_pipeline=False)


if __name__ == "__main__":
    cli.run(main)
