"""Distillation methods: one module and one recipe per method."""
