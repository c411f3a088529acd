"""The same tree, tested."""
