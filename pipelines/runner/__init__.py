"""The coordinator of ``make repro``, which alone writes dvc.lock, and its executors."""
