"""Folders of media, searchable: one LanceDB table of items with their vectors, T-CoTs and evidence."""

from embedrl.index.failures import Failure, list_failures
from embedrl.index.filter import Filter
from embedrl.index.index import Index, IndexStats
from embedrl.index.ingest import IngestReport, ingest
from embedrl.index.recommend import Recommended, recommend
from embedrl.index.search import Hit, SearchResult, search

__all__ = [
    "Failure",
    "Filter",
    "Hit",
    "Index",
    "IndexStats",
    "IngestReport",
    "Recommended",
    "SearchResult",
    "ingest",
    "list_failures",
    "recommend",
    "search",
]
