"""Make training data of pairs: T-CoTs for both sides, and a filter that keeps a pair or says why not."""
