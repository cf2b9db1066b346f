"""HTML reports, charts and score tables."""
