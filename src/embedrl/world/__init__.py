"""Layer 4: a procedural world of scenes, clips and pages whose truth is known, and its retrieval tasks."""
