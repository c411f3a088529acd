"""What stage check compares beyond the schemas: recipes with the code, names with the models."""
