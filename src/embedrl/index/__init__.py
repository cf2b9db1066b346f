"""Folders of media, searchable: one LanceDB table of items with their vectors, T-CoTs and evidence."""

from embedrl.index.failures import Failure, list_failures
from embedrl.index.index import Index, IndexStats
from embedrl.index.ingest import IngestReport, ingest
from embedrl.index.search import Hit, SearchResult, search, similar

__all__ = ["Failure", "Hit", "Index", "IndexStats", "IngestReport", "SearchResult", "ingest", "list_failures", "search", "similar"]
