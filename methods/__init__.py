"""By what it is distilled: one module and one recipe per method."""
