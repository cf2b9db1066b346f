"""Figures of an index."""

from pydantic import BaseModel, ConfigDict


class IndexStats(BaseModel):
    """What an index holds, and how it is searched."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    num_places: int
    """Files and pages."""
    num_items: int
    """Different contents."""
    modalities: dict[str, int]
    """Number of places of each modality."""
    num_without_tcot: int
    embedder: str
    dim: int
    search: str
    """`exact` or `approximate`."""
    recall: float
    """Measured recall@10 of the approximate index against exact search (the worse of both kinds of vectors); 1 if exact."""
    size_bytes: int
