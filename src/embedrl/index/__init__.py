"""Folders of media, searchable: one LanceDB table of items with their vectors, T-CoTs and evidence."""

from embedrl.index.failures import Failure, list_failures
from embedrl.index.filter import Filter
from embedrl.index.hit import Hit
from embedrl.index.index import Index, IndexStats
from embedrl.index.ingest import IngestReport, ingest
from embedrl.index.query import Query
from embedrl.index.recommend import Examples, Recommendations, Recommended, recommend
from embedrl.index.search import SearchResult, search

__all__ = [
    "Examples",
    "Failure",
    "Filter",
    "Hit",
    "Index",
    "IndexStats",
    "IngestReport",
    "Query",
    "Recommendations",
    "Recommended",
    "SearchResult",
    "ingest",
    "list_failures",
    "recommend",
    "search",
]
