"""Items, pairs, T-CoTs, evidence, and the protocols of the models."""
