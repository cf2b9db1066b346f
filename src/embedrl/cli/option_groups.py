"""Options that several commands share as a group, with what they mean together (`expand_groups` makes them options)."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self, TypeVar, cast

from embedrl.cli.arguments import decoded
from embedrl.cli.dial import Dial, GateFile, IndexDial, ThinkBudget, ThinkDial, read_dial
from embedrl.cli.options import (
    Area,
    Camera,
    ConfigFile,
    EngineName,
    IndexEmbedder,
    IndexReasoner,
    Like,
    Limit,
    MaxNewTokens,
    Modalities,
    Preset,
    RayAddress,
    ServerOptions,
    ServerTimeout,
    Since,
    Under,
    Until,
    Words,
    Workers,
)
from embedrl.errors import ConfigError

if TYPE_CHECKING:
    from embedrl.cli.limits import ConfigTables
    from embedrl.index.filter import Filter
    from embedrl.runtime.engine import Engine

N = TypeVar("N", str, str | None)


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Filters of what is searched."""

    modality: Modalities = None
    under: Under = None
    since: Since = None
    until: Until = None
    words: Words = None
    camera: Camera = None
    area: Area = None

    def filter(self) -> "Filter":
        """Read the filter; times are local. Raises ConfigError for an unknown modality, an invalid date or area, or too many words."""
        from embedrl.index.filter import read_filter
        from embedrl.index.row import shown

        under, words, camera = shown(self.under) if self.under else "", decoded(self.words), decoded(self.camera)
        return read_filter(self.modality, under, self.since, self.until, words, camera, self.area, zone=None)


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """Limits of decoding, and the file with settings."""

    limit: Limit = None
    config: ConfigFile = None

    def apply(self) -> "ConfigTables":
        """Put the limits in force, and return all tables. Raises ConfigError."""
        from embedrl.cli.limits import set_limits

        return set_limits(self.config, self.limit)


@dataclass(frozen=True, kw_only=True)
class EngineOptions:
    """Where models run."""

    engine: EngineName = "local"
    workers: Workers = None
    ray_address: RayAddress = None

    def read(self) -> "Engine":
        """Return the engine. Raises ConfigError for options of Ray without it."""
        from embedrl.runtime.engine import Engine

        return Engine(self.engine, self.workers, self.ray_address)


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Settings of requests to model servers."""

    server_option: ServerOptions = None
    max_new_tokens: MaxNewTokens = None
    server_timeout: ServerTimeout = None

    @property
    def are_set(self) -> bool:
        """Whether any is."""
        return any((self.server_option, self.max_new_tokens, self.server_timeout))

    def added_to(self, names: Sequence[N]) -> list[N]:
        """Return model names, with the settings added to those of servers. Raises ConfigError if there are settings but no server.

        Names that are None stay None.
        """
        from embedrl.models.names import is_server
        from embedrl.models.server_name import add_options

        added = self._options(with_length=True)
        servers = {name for name in names if name is not None and is_server(name)}
        if added and not servers:
            shown = ", ".join(repr(name) for name in names if name is not None) or "no Reasoner"
            raise ConfigError(
                f"{added[0][0]}={added[0][1]} is for a server (http://host:8000/v1#model), and {shown} is not one; "
                "the answers of a model folder are limited by max_new_tokens in its embedrl.json"
            )
        return [cast(N, add_options(name, added)) if name in servers and name is not None else name for name in names]

    def _options(self, *, with_length: bool) -> list[tuple[str, str]]:
        from embedrl.models.server_name import split_option

        added = [split_option(option) for option in self.server_option or ()]
        added += [("max_new_tokens", str(self.max_new_tokens))] if with_length and self.max_new_tokens is not None else []
        return added + ([("timeout_s", f"{self.server_timeout:g}")] if self.server_timeout is not None else [])


@dataclass(frozen=True, kw_only=True)
class ModelServers(ServerSettings):
    """Settings of requests to servers of a Reasoner, an Embedder, or both."""

    like: Like = None

    @property
    def are_set(self) -> bool:
        """Whether any is."""
        return super().are_set or self.like is not None

    def added_to_both(self, reasoners: Sequence[N], embedder: N) -> tuple[list[N], N]:
        """Return the names of Reasoners and an Embedder, with the settings added to those of servers.

        Transport settings go to every server; all others to the Reasoners, or to the Embedder if it alone is on a server.
        Raises ConfigError as `added_to` does, and for `like` without an Embedder on a server.
        """
        from embedrl.models.names import is_server
        from embedrl.models.server_name import add_options, is_about_transport

        if embedder is None or not is_server(embedder):
            if self.like is not None:
                raise ConfigError(f"--like {str(self.like)!r} is for an Embedder on a server: give --embedder http://host:8000/v1#model")
            return self.added_to(reasoners), embedder
        added, asks_reasoner = self._options(with_length=False), any(name and is_server(name) for name in reasoners)
        own = [option for option in added if is_about_transport(option[0])] if asks_reasoner else added
        with_options = cast(N, add_options(embedder, [*own, *([("like", str(self.like))] if self.like is not None else [])]))
        if asks_reasoner or self.max_new_tokens is not None:
            return self.added_to(reasoners), with_options
        return list(reasoners), with_options


@dataclass(frozen=True, kw_only=True)
class QueryModels(ModelServers):
    """The models that an index is searched with: named ones, else those that it was made with."""

    reasoner: IndexReasoner = None
    embedder: IndexEmbedder = None
    models: Preset = None
    think: ThinkDial = None
    gate: GateFile = None
    think_budget: ThinkBudget = None

    @property
    def dial(self) -> Dial | None:
        """Whether to reason; a gate or a budget alone means `auto`. Raises ConfigError for these with another mode."""
        return read_dial(self.think, self.gate, self.think_budget)

    def by_name(self, before: str | None = None) -> tuple[Self, str | None]:
        """Return these models with the names of the preset, settings of servers in all names, that of a second Reasoner too.

        Names are checked before anything that takes long to import. Raises ConfigError.
        """
        from embedrl.runtime.names import check_names

        names = with_preset(self.models, self.reasoner, self.embedder)
        (reasoner, before), embedder = self.added_to_both([names[0], before], names[1])
        for name in (reasoner if self.dial != "never" else None, before):
            check_names(name, embedder)
        return replace(self, reasoner=reasoner, embedder=embedder, models=None), before


@dataclass(frozen=True, kw_only=True)
class ItemModels(QueryModels):
    """The models that an index is made with: named ones, else those that it was made with before."""

    think: IndexDial = None


def with_preset(name: str | None, reasoner: N, embedder: N) -> tuple[N, N]:
    """Return the names of a Reasoner and an Embedder, from the preset if there is one. Raises ConfigError if both are set."""
    if name is None:
        return reasoner, embedder
    from embedrl.models.known import preset

    if reasoner is not None or embedder is not None:
        raise ConfigError(f"--models {name} names both models: leave out --reasoner and --embedder, or --models")
    pair = preset(name)
    return cast(N, pair.reasoner), cast(N, pair.embedder)
