"""Build training data from pairs: generate T-CoTs for both sides, then filter."""
