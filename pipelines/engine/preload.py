"""Imports of stages, trials and measurements, made once: each is forked from a process that has imported this and done no more."""

import pipelines.engine.tracking  # noqa: I001 (it silences MLflow before that is imported)
import mlflow  # noqa: F401 (imported for those that are forked)

import pipelines.stages.evaluate
import pipelines.tuning.trial  # noqa: F401 (as above)
from pipelines.engine.mmlab import prepare_process

prepare_process()
