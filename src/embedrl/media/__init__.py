"""Layer 1: typed parts, and decoding them from files."""
