"""The only code that knows MMLab, mmrazor and MLflow."""
