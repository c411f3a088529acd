"""Input of the report: records of finished runs, reported results and their comparability."""
