"""The Reasoner: writes T-CoTs and judges, locally or behind a server."""
