"""Stages of dvc.yaml, one module per stage; each ends with what started it, from its first import on."""

from pipelines.runner.parent_death import die_with_starter

die_with_starter()
