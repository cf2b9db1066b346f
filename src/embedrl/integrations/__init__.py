"""Adapters for other tools."""
