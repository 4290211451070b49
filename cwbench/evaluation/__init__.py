"""Evaluation: from a model and examples to outcomes. The only package that calls an attack."""
