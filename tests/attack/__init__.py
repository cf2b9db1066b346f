"""Attack harness: `make attack`."""
