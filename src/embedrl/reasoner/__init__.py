"""Layer 3: the Reasoner reads items and writes T-CoTs."""
