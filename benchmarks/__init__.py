"""Subjects of the comparison: pairs, tiers, data sets, metrics and reported results."""
