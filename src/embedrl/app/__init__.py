"""Layer 6: what users touch; the only layer that knows everyone."""
