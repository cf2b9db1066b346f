"""Layer 2: items, pairs, T-CoTs, evidence, and the roles the rest of the house depends on."""
