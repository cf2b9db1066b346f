"""Layer 4: embedder-guided RL. The frozen Embedder and a judge reward the Reasoner's T-CoTs, and GRPO does the rest."""
