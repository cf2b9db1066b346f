"""Retrieval evaluation: tasks, metrics, bootstrap intervals, reports."""
