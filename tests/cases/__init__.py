"""Faults that were reported, each kind in one file: the right value, and where it was reported."""
