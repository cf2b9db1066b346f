"""Work from recipe or options to results: annotate, filter, train, evaluate, index, the quickstart."""
