"""Statistics of runs: estimates, intervals, tests and verdicts."""
