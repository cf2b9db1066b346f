"""Layer 5: retrieval tasks, metrics, one evaluation per system, and the report that compares systems."""
