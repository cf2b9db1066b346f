"""Loading models, adapters, fast forward passes, memory."""
