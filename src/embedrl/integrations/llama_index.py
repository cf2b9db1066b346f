"""LlamaIndex: a retriever over an index, and an embedding model. llama-index-core is the extra "llamaindex".

from embedrl.integrations.llama_index import EmbedRLRetriever

retriever = EmbedRLRetriever.open("~/Pictures", limit=5)  # with the models that it was indexed with
nodes = retriever.retrieve("a red star")
"""

from typing import Any

from embedrl.data.protocols import Embeds, Reasons
from embedrl.errors import ConfigError
from embedrl.index.filter import Filter
from embedrl.index.index import Index
from embedrl.integrations.documents import OpensByName, embed_query, embed_texts, metadata_of, retrieve, text_of
from embedrl.runtime.names import load_embedder

try:
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode
    from pydantic import PrivateAttr
except ImportError as error:
    raise ConfigError("this needs the package llama-index-core: pip install 'embedrl[llamaindex]'") from error


class EmbedRLRetriever(OpensByName, BaseRetriever):
    """Retrieves items of an index: what is said of each as the node's text, path, score and evidence as its metadata."""

    def __init__(
        self, index: Index, embedder: Embeds, reasoner: Reasons | None = None, *, limit: int = 10, filter: Filter | None = None
    ) -> None:
        self.index, self.embedder, self.reasoner, self.limit, self.filter = index, embedder, reasoner, limit, filter or Filter()
        super().__init__()

    def _retrieve(self, query_bundle: "QueryBundle") -> "list[NodeWithScore]":
        return [
            NodeWithScore(node=TextNode(id_=hit.key, text=text_of(hit), metadata=metadata_of(self.index, hit)), score=hit.score)
            for hit in retrieve(self.index, query_bundle.query_str, self.embedder, self.reasoner, filter=self.filter, limit=self.limit)
        ]


class EmbedRLEmbedding(BaseEmbedding):
    """Plain vectors (unit length, without T-CoTs) of texts: documents as candidates, queries as queries."""

    _embedder: Any = PrivateAttr()

    def __init__(self, embedder: str | Embeds = "nano", **fields: Any) -> None:
        loaded = load_embedder(embedder) if isinstance(embedder, str) else embedder
        super().__init__(model_name=loaded.fingerprint, **fields)
        self._embedder = loaded

    def _get_query_embedding(self, query: str) -> list[float]:
        return embed_query(self._embedder, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return embed_texts(self._embedder, texts)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_query_embedding(query)
