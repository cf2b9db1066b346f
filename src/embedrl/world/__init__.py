"""A procedural world of scenes, clips and pages with ground truth, and its retrieval tasks."""
