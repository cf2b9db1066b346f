"""EG-RL: the frozen Embedder and a judge reward the Reasoner's T-CoTs under GRPO."""
