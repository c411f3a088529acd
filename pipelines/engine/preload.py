"""Imports of stages, trials and measurements, made once: each is forked from a process that has imported this and done no more."""

import signal

from pipelines.runner.parent_death import die_with_parent

die_with_parent()  # before what takes seconds
signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for whoever started it

import pipelines.engine.tracking  # noqa: I001, E402 (it silences MLflow before that is imported)
import mlflow  # noqa: E402, F401 (imported for those that are forked)

import pipelines.stages.evaluate  # noqa: E402 (behind what it needs)
import pipelines.tuning.trial  # noqa: E402, F401 (as above)
from pipelines.engine.mmlab import prepare_process  # noqa: E402 (as above)

prepare_process()
