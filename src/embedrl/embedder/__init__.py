"""Layer 3: the Embedder turns an item, its T-CoT and the evidence in it into one vector."""
