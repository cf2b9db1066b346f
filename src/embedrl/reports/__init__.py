"""What people read: HTML pages, charts, score tables."""
