"""What every trial's process needs, imported once: each is forked from a process that has imported this and done no more."""

import pipelines.tuning.trial  # noqa: F401
from pipelines.engine.training import prepare_process

prepare_process()
