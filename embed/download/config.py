"""Settings of the photo download."""

import math
from dataclasses import dataclass
from typing import NoReturn

from embed.errors import ConfigError

_AT_LEAST_ONE = ("concurrency", "per_host", "max_bytes", "give_up_host_after")
_NOT_NEGATIVE = ("retries", "max_redirects", "seed")
_SECONDS = ("connect_timeout", "read_timeout", "deadline", "backoff", "max_backoff")
_OPTIONS = {
    "concurrency": "--concurrency",
    "per_host": "--per-host",
    "retries": "--retries",
    "deadline": "--timeout",
}


@dataclass(frozen=True, kw_only=True)
class DownloadConfig:
    """Limits on requests for photos."""

    concurrency: int = 16
    """Requests at the same time, to all hosts; each holds at most `max_bytes`."""

    per_host: int = 4
    """Requests at the same time to one host; browsers use 6."""

    retries: int = 3
    """Further requests for a link after a failure that may be temporary."""

    allow_private: bool = False
    """Whether to connect to private and loopback addresses."""

    connect_timeout: float = 10.0
    """Seconds to connect to a host."""

    read_timeout: float = 20.0
    """Seconds to wait for the next byte."""

    deadline: float = 60.0
    """Seconds for one request, including redirects but not the wait for a turn."""

    max_bytes: int = 20 * 2**20
    """Bytes of one decompressed photo; a product photo has 0.01 to 2 MiB."""

    max_redirects: int = 5
    """Redirects followed for one photo."""

    backoff: float = 1.0
    """Seconds; the pause before request k + 1 is random, up to this * 2**(k - 1)."""

    max_backoff: float = 30.0
    """Seconds of the longest such pause."""

    max_pause: float = 60.0
    """Seconds; a host that asks for a longer pause is given up for this run."""

    give_up_host_after: int = 20
    """Links in a row that failed to connect before the rest of a host is skipped."""

    save_every: float = 30.0
    """Seconds between two writes of `downloads.csv`."""

    seed: int = 0
    """Seed of the random pauses."""

    def __post_init__(self) -> None:
        """Refuse values that no run can use."""
        for names, least in ((_AT_LEAST_ONE, 1), (_NOT_NEGATIVE, 0)):
            for name in names:
                if getattr(self, name) < least:
                    self._refuse(name, f"at least {least}")
        for name in _SECONDS:
            if not 0 < getattr(self, name) < math.inf:
                self._refuse(name, "a positive number of seconds")

    def _refuse(self, name: str, rule: str) -> NoReturn:
        setting = _OPTIONS.get(name, name.replace("_", " "))
        raise ConfigError(f"{setting} must be {rule}, got {getattr(self, name)}")
