"""Tools: speed of losses, cost of a step, model sizes, scale of the coordinator, the table of the README."""
