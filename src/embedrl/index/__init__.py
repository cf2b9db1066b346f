"""Folders of media, searchable: one LanceDB table of items with their vectors, T-CoTs and evidence."""
