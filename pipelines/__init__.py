"""Execution: stages of DVC, the engine, the search, the coordinator and the command line."""
