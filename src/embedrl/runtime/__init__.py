"""Models by name, in this process or in workers on Ray."""
