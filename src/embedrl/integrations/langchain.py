"""LangChain: a retriever over an index, and embeddings by an Embedder. langchain-core is the extra "langchain".

from embedrl.integrations.langchain import EmbedRLRetriever

retriever = EmbedRLRetriever.open("~/Pictures", limit=5)  # with the models that it was indexed with
documents = retriever.invoke("a red star")
"""

from typing import Any

from embedrl.data.protocols import Embeds
from embedrl.errors import ConfigError
from embedrl.index.filter import Filter
from embedrl.integrations.documents import OpensByName, embed_query, embed_texts, metadata_of, retrieve, text_of
from embedrl.runtime.names import load_embedder

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.retrievers import BaseRetriever
except ImportError as error:
    raise ConfigError("this needs the package langchain-core: pip install 'embedrl[langchain]'") from error


class EmbedRLRetriever(OpensByName, BaseRetriever):
    """Retrieves items of an index: what is said of each as the document's text, path, score and evidence as its metadata."""

    index: Any
    """An `Index`."""
    embedder: Any
    reasoner: Any = None
    """Without one, items are compared as they are."""
    limit: int = 10
    filter: Any = Filter()

    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> "list[Document]":
        return [
            Document(id=hit.key, page_content=text_of(hit), metadata=metadata_of(self.index, hit, also={"key", "score"}))
            for hit in retrieve(self.index, query, self.embedder, self.reasoner, filter=self.filter, limit=self.limit)
        ]


class EmbedRLEmbeddings(Embeddings):
    """Plain vectors (unit length, without T-CoTs) of texts: documents as candidates, queries as queries."""

    def __init__(self, embedder: str | Embeds = "nano") -> None:
        self.embedder = load_embedder(embedder) if isinstance(embedder, str) else embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one vector per text."""
        return embed_texts(self.embedder, texts)

    def embed_query(self, text: str) -> list[float]:
        """Return the vector of a query that looks for texts."""
        return embed_query(self.embedder, text)
