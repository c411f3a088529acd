"""Schemas of records, studies and leaderboards."""
