"""Comparisons of stage check beyond the schemas: recipes with the code, names with the models."""
