"""Request and response schemas of OpenAI's API and of rerank."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from embedrl.server.openai_messages import MAX_CHARS, MAX_FRAMES, CleanText, Messages
from embedrl.server.problem import Problem

MAX_INPUTS = 2_048
MAX_DOCUMENTS = 256
MAX_TOKENS = 4_096


def _no_tokens(value: Any) -> Any:
    """Reject token arrays, since their ids belong to another tokenizer."""
    if isinstance(value, list) and any(
        isinstance(element, int) or (isinstance(element, list) and element) for element in value[:MAX_INPUTS]
    ):
        raise ValueError("token arrays are not read, send texts; LangChain: OpenAIEmbeddings(check_embedding_ctx_length=False)")
    return value


class _Shape(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)


class VideoFrames(_Shape):
    """Sampled frames of a video and their times."""

    fps: float = Field(default=1.0, gt=0, le=1_000_000, allow_inf_nan=False)
    frames_indices: Annotated[list[Annotated[int, Field(ge=0, le=10**12)]], Field(min_length=1, max_length=MAX_FRAMES)]
    """The number of each frame; its time is that number divided by `fps`."""


class Document(_Shape):
    """A document: text, image, or both, and fields of the client's own."""

    model_config = ConfigDict(use_attribute_docstrings=True, extra="allow")

    text: CleanText | None = None
    image: str | None = None
    """`data:image/png;base64,…`, or base64 alone."""

    @model_validator(mode="after")
    def _something(self) -> "Document":
        if not self.text and not self.image and not self.__pydantic_extra__:
            raise ValueError("give text, an image, or both")
        if wrong := [name for name, value in (self.__pydantic_extra__ or {}).items() if isinstance(value, list | dict)]:
            raise ValueError(f"{wrong[0][:64]!r}: a field holds a text or a number")
        if sum(map(len, self.fields.values())) > MAX_CHARS:
            raise ValueError(f"give at most {MAX_CHARS} characters in all fields")
        return self

    @property
    def fields(self) -> dict[str, str]:
        """Text fields by name, the client's own included; an image as its name only."""
        own = {name: str(value) for name, value in (self.__pydantic_extra__ or {}).items() if value is not None}
        return own | ({"text": self.text} if self.text else {}) | ({"image": ""} if self.image else {})


class EmbeddingsRequest(_Shape):
    """Embeddings request: `input`, or chat `messages` that form one item."""

    model: str | None = None
    input: Annotated[
        CleanText | Annotated[list[CleanText | Document], Field(min_length=1, max_length=MAX_INPUTS)] | None, BeforeValidator(_no_tokens)
    ] = None
    """A text, or a list of texts and, as Jina's clients send them, of objects with `text` and `image`."""
    messages: Messages | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    """Truncate vectors to this dimension and scale them to unit length (Matryoshka)."""
    input_type: Literal["query", "document"] = "document"
    """Whether this looks for something, or is to be found. Not in OpenAI's API."""
    instruction: Annotated[CleanText, Field(max_length=2000)] | None = None
    """Replaces the standard instruction. Not in OpenAI's API."""
    task: Literal["retrieval.query", "retrieval.passage", "code.query", "code.passage", "text-matching"] | None = None
    """Jina's word for `input_type`: what ends with `.query` looks for something."""
    embedding_type: Literal["float", "base64"] | None = None
    """Jina's word for `encoding_format`."""
    normalized: Literal[True] | None = None
    """Jina's; vectors have unit length."""
    late_chunking: Literal[False] | None = None
    """Jina's; each input has one vector of its own."""
    think: bool = False
    """Let the Reasoner write a T-CoT first, which the vector then holds. Not in OpenAI's API."""
    add_generation_prompt: bool = False
    """The messages are the Embedder's own prompt, as embedrl's client and vLLM's pooling write it, and are embedded as they are."""
    media_io_kwargs: dict[Literal["video"], VideoFrames] | None = None
    """With `add_generation_prompt`: when the frames of a `data:video/jpeg` URL were seen, as vLLM takes it."""

    @model_validator(mode="after")
    def _one_input(self) -> "EmbeddingsRequest":
        if (self.input is None) == (self.messages is None):
            raise ValueError("give either input or messages")
        if self.add_generation_prompt and (self.messages is None or self.think or self.instruction is not None):
            raise ValueError("add_generation_prompt: belongs to messages, without think and instruction")
        return self

    @property
    def inputs(self) -> "list[str | Document]":
        """The inputs as a list; empty for messages."""
        return [self.input] if isinstance(self.input, str) else list(self.input or ())

    @property
    def is_query(self) -> bool:
        """Whether the inputs look for something."""
        return self.input_type == "query" or (self.task or "").endswith(".query")

    @property
    def encoding(self) -> Literal["float", "base64"]:
        """How vectors are sent."""
        return self.embedding_type or self.encoding_format

    @property
    def times_s(self) -> list[float]:
        """Times of the frames, in seconds."""
        video = (self.media_io_kwargs or {}).get("video")
        return [number / video.fps for number in video.frames_indices] if video else []


class StreamOptions(_Shape):
    """Options of a streamed response."""

    include_usage: bool = False
    """Whether a last piece tells how much was read and written."""


class ChatRequest(_Shape):
    """Chat completion request. Unsupported settings that would change the answer are refused, never ignored."""

    model: str | None = None
    messages: Messages
    max_tokens: int | None = Field(default=None, ge=1)
    """An upper bound; the Reasoner's own limit holds as well."""
    max_completion_tokens: int | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0, le=2, allow_inf_nan=False)
    n: int | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    """The answer ends before the first of these."""
    stream: bool = False
    stream_options: StreamOptions | None = None
    top_p: float | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    seed: int | None = None
    response_format: dict[str, Any] | None = None
    tools: list[Any] | None = None
    tool_choice: Any = None
    functions: list[Any] | None = None
    function_call: Any = None
    quoted_text: CleanText = ""
    """Ours: the text that keywords of a T-CoT have to quote; empty: they are not held to any."""

    @property
    def limit(self) -> int | None:
        """Maximum number of new tokens."""
        asked = self.max_completion_tokens or self.max_tokens
        return None if asked is None else min(asked, MAX_TOKENS)

    @property
    def stops(self) -> list[str]:
        """Stop sequences."""
        return [text for text in ([self.stop] if isinstance(self.stop, str) else self.stop or ()) if text]

    def check(self) -> None:
        """Raise Problem 400 for unsupported settings."""
        wants_tools = bool(self.tools or self.functions) and "none" not in (self.tool_choice, self.function_call)
        kind = (self.response_format or {}).get("type", "text")
        for name, refused, instead in (
            ("n", self.n not in (None, 1), "leave it out, or give 1"),
            ("tools" if self.tools else "functions", wants_tools, 'leave them out, or give tool_choice="none"'),
            ("tool_choice", self.tool_choice not in (None, "none", "auto"), "leave it out"),
            ("function_call", self.function_call not in (None, "none", "auto"), "leave it out"),
            ("response_format", kind != "text", 'leave it out, or give {"type": "text"}'),
            ("logprobs", bool(self.logprobs or self.top_logprobs), "leave it out"),
            ("logit_bias", bool(self.logit_bias), "leave it out"),
            ("top_p", self.top_p not in (None, 1), "leave it out, or give 1"),
            ("presence_penalty", bool(self.presence_penalty), "leave it out, or give 0"),
            ("frequency_penalty", bool(self.frequency_penalty), "leave it out, or give 0"),
            ("seed", self.seed is not None and bool(self.temperature), "leave it out, or give temperature=0"),
        ):
            if refused:
                raise Problem(400, f"{name}: not supported by this server; {instead}", "unsupported")


class RerankRequest(_Shape):
    """Rerank request: a query and documents."""

    model: str | None = None
    query: CleanText | Document
    documents: Annotated[list[CleanText | Document], Field(min_length=1, max_length=MAX_DOCUMENTS)]
    top_n: int | None = Field(default=None, ge=1)
    rank_fields: Annotated[list[Annotated[str, Field(max_length=64)]], Field(max_length=32)] = Field(default_factory=list)
    """Cohere's: the fields of a document that are read, in this order; by default `text` and `image`."""
    max_tokens_per_doc: int | None = Field(default=None, ge=1)
    """Cohere's: a longer document is refused, since none is cut."""
    return_documents: bool = False
    think: bool = False
    """Let the Reasoner see query and candidates first."""


class Embedding(_Shape):
    """An embedding."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str
    """Unit length; in base64, little-endian float32."""
    tcot_failure: str | None = None
    """Why it holds no T-CoT although `think` asked for one. Not in OpenAI's API."""


class Usage(_Shape):
    """Token usage of the texts, or words if the model has no tokenizer; images are not counted."""

    prompt_tokens: int = 0
    total_tokens: int = 0
    completion_tokens: int | None = None


class Embeddings(_Shape):
    """Embeddings, in the order of the inputs."""

    object: Literal["list"] = "list"
    data: list[Embedding]
    model: str
    usage: Usage = Usage()


class Ranked(_Shape):
    """A document with its score."""

    index: int
    relevance_score: float
    """What the reranker gave it; without one, the cosine to the query, -1..1."""
    document: dict[str, Any] | None = None


class Rerank(_Shape):
    """Documents in order of score."""

    id: str
    model: str
    """What scored them: the reranker, or the Embedder."""
    results: list[Ranked]
    think: bool = False
    """Whether T-CoTs were compared. If one item got none, all are compared as they are."""
    usage: Usage = Usage()


class Model(_Shape):
    """A model of this server."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "embedrl"
    embedrl: dict[str, Any] | None = None
    """Of a Reasoner with loaded weights: the prompts, pixel budget, length of answers and pixels of a token that it was trained on."""
    embeds: dict[str, Any] | None = None
    """Of an Embedder with loaded weights: how its prompt is built, and its pixel budget."""


class ModelList(_Shape):
    """The models of this server."""

    object: Literal["list"] = "list"
    data: list[Model]


class _Reply(_Shape):
    role: Literal["assistant"] = "assistant"
    content: str


class _Choice(_Shape):
    index: Literal[0] = 0
    message: _Reply
    finish_reason: Literal["stop", "length"]


class Completion(_Shape):
    """Chat completion response."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[_Choice]
    usage: Usage
