"""Settings of the server: address, token, limits of a request."""

import ipaddress

from pydantic import BaseModel, ConfigDict, Field, model_validator

from embedrl.errors import ConfigError
from embedrl.media.store import Limits, limits_in_force

MIN_TOKEN_CHARS = 16
MIB = 1024**2
UPLOAD_LIMITS = Limits(
    max_bytes=1024 * MIB, max_pixels=50_000_000, max_frames=5_000, max_duration_s=3600, max_pages=500, decode_timeout_s=20
)


class Capacity(BaseModel):
    """Shared capacity of requests: the table [server] of a `--config` file."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    watch_interval_s: float = Field(default=0.4, gt=0)
    """How long to wait between two looks at a folder that is watched."""
    max_held_bytes: int = Field(default=512 * MIB, ge=1024)
    """Size of all requests that are held at once."""
    head_timeout_s: float = Field(default=10.0, gt=0)
    """How long a client may take to send the head of a request."""
    body_timeout_s: float = Field(default=30.0, gt=0)
    """How long a client may take to send a request."""
    max_batch: int = Field(default=32, ge=1)
    """Queries that are reasoned about or embedded together."""
    max_connections: int = Field(default=256, ge=2)
    """Open connections; more are refused (503)."""
    max_decoded_pixels: int = Field(default=256_000_000, ge=100_000_000)
    """Pixels of all requests that are held decoded at once, three bytes each."""


class Settings(Capacity):
    """Address, access and limits of the server."""

    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65_535)
    """0 takes a free one."""
    token: str | None = Field(default=None, repr=False)
    """What a client must know. Needed unless only this machine can reach the server."""
    allow_hosts: tuple[str, ...] = ()
    """Names, beside addresses, under which clients may ask."""
    watch: bool = False
    """Look at the folder again and again, and index what changed."""
    max_upload_bytes: int = Field(default=64 * MIB, ge=1024)
    """Size of a whole request."""
    max_in_flight: int = Field(default=64, ge=1)
    """Requests that wait for the models at once; more are told to come back (429)."""
    limits: Limits = UPLOAD_LIMITS
    """What a file that a client sends may hold, and what decoding it may take."""
    library_limits: Limits = Field(default_factory=limits_in_force)
    """What a file of the indexed folders may hold: as `embedrl index` took it in, it is shown and kept."""

    @model_validator(mode="after")
    def _guarded(self) -> "Settings":
        if self.token is None and not self.is_loopback:
            raise ConfigError(f"host={self.host!r} can be reached by others: give a token (--token, or EMBEDRL_TOKEN), or use 127.0.0.1")
        if self.token is not None and (len(self.token) < MIN_TOKEN_CHARS or not self.token.isascii() or not self.token.isprintable()):
            raise ConfigError(f"the token has {len(self.token)} characters: give at least {MIN_TOKEN_CHARS}, printable ASCII only")
        if self.token is not None and " " in self.token:
            raise ConfigError("the token holds a blank, which no header carries: leave it out")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether the address is loopback."""
        return self.host == "localhost" or _is_loopback(self.host)

    def admits(self, host: str) -> bool:
        """Return whether a Host header names this server: an allowed name, or an IP address (immune to DNS rebinding)."""
        name = _without_port(host).lower()
        if name in ("localhost", self.host.lower(), *(allowed.lower() for allowed in self.allow_hosts)):
            return True
        return _is_loopback(name) if self.is_loopback else _is_address(name)


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_loopback(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_loopback
