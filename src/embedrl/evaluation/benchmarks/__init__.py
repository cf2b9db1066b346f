"""Readers of published benchmarks (MMEB-V2, UVRB) as retrieval tasks."""
