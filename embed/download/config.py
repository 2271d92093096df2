"""Settings of the download of photos."""

import math
from dataclasses import dataclass

from embed.errors import ConfigError

_AT_LEAST_ONE = ("concurrency", "per_host", "max_bytes", "give_up_host_after")
_NOT_NEGATIVE = ("retries", "max_redirects", "seed")
_SECONDS = ("connect_timeout", "read_timeout", "deadline", "backoff", "max_backoff")


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """How politely and how long photos are asked for."""

    concurrency: int = 16
    """Requests at the same time, all hosts together; each holds at most `max_bytes`."""

    per_host: int = 4
    """Requests at the same time to one host; browsers take 6."""

    retries: int = 3
    """Asks after the first, where another may help."""

    allow_private: bool = False
    """Whether private and loopback addresses may be connected to."""

    connect_timeout: float = 10.0
    """Seconds until a connection stands."""

    read_timeout: float = 20.0
    """Seconds without a byte."""

    deadline: float = 60.0
    """Seconds for one ask of a photo, redirects included, waits for a turn not."""

    max_bytes: int = 20 * 2**20
    """Of one photo, decompressed; a product photo has 0.01 to 2 MiB."""

    max_redirects: int = 5
    """Redirects followed for one photo."""

    backoff: float = 1.0
    """Seconds: before ask k + 1 a random time up to `backoff` * 2**(k - 1) passes."""

    max_backoff: float = 30.0
    """Seconds; the longest such time."""

    max_pause: float = 60.0
    """Seconds; a host that asks for a longer pause is left alone for this run."""

    give_up_host_after: int = 20
    """Links in a row that could not be connected to, then the rest is not tried."""

    save_every: float = 30.0
    """Seconds between two writes of `downloads.csv`."""

    seed: int = 0
    """Of the random times between asks."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use."""
        for names, least in ((_AT_LEAST_ONE, 1), (_NOT_NEGATIVE, 0)):
            for name in names:
                if getattr(self, name) < least:
                    raise ConfigError(
                        f"DownloadConfig.{name} must be at least {least}, "
                        f"got {getattr(self, name)}"
                    )
        for name in _SECONDS:
            if not 0 < getattr(self, name) < math.inf:
                raise ConfigError(
                    f"DownloadConfig.{name} must be a positive number of seconds, "
                    f"got {getattr(self, name)}"
                )
