"""Pipelines from options or a recipe to results: annotate, train, evaluate, index, compare, quickstart."""
