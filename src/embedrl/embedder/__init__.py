"""The Embedder: item, T-CoT and evidence to one vector."""
