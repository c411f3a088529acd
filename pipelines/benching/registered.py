"""Importing this module registers MMLab's components, which takes seconds; processes forked afterwards have them."""

from pipelines.engine.training import prepare_process

prepare_process()
