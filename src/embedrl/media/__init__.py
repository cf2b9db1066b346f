"""Typed parts, and decoding them from files within limits."""
