"""Stages of dvc.yaml, one module per stage."""
