"""The benchmarks' own files: which there are, what a row of each means, and reading them as retrieval tasks."""
