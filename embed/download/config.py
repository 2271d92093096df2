"""Settings of the photo download."""

from typing import Annotated

from pydantic.dataclasses import dataclass

from embed.store.records import SETTINGS, config_errors
from embed.store.rules import Flag, Rule, whole

_Seconds = Annotated[
    float, Rule("a positive number of seconds", lambda value: value > 0)
]
_Wait = Annotated[float, Rule("0 seconds or more", lambda value: value >= 0)]


@config_errors
@dataclass(frozen=True, kw_only=True, config=SETTINGS)
class DownloadConfig:
    """Limits on requests for photos."""

    concurrency: Annotated[int, whole(1, rule="--concurrency must be at least 1")] = 16
    """Requests at the same time, to all hosts; each holds at most `max_bytes`."""

    per_host: Annotated[int, whole(1, rule="--per-host must be at least 1")] = 4
    """Requests at the same time to one host; browsers use 6."""

    retries: Annotated[int, whole(0, rule="--retries must be at least 0")] = 3
    """Further requests for a link after a failure that may be temporary."""

    allow_private: Flag = False
    """Whether to connect to private and loopback addresses."""

    connect_timeout: _Seconds = 10.0
    """Seconds to connect to a host."""

    read_timeout: _Seconds = 20.0
    """Seconds to wait for the next byte."""

    deadline: Annotated[
        float,
        Rule("--timeout must be a positive number of seconds", lambda value: value > 0),
    ] = 60.0
    """Seconds for one request, including redirects but not the wait for a turn."""

    max_bytes: Annotated[int, whole(1, rule="max bytes must be at least 1")] = (
        20 * 2**20
    )
    """Bytes of one decompressed photo; a product photo has 0.01 to 2 MiB."""

    max_redirects: Annotated[int, whole(0, rule="max redirects must be at least 0")] = 5
    """Redirects followed for one photo."""

    backoff: _Seconds = 1.0
    """Seconds; the pause before request k + 1 is random, up to this * 2**(k - 1)."""

    max_backoff: _Seconds = 30.0
    """Seconds of the longest such pause."""

    max_pause: _Wait = 60.0
    """Seconds; a host that asks for a longer pause is given up for this run."""

    give_up_host_after: Annotated[
        int, whole(1, rule="give up host after must be at least 1")
    ] = 20
    """Links in a row that failed to connect before the rest of a host is skipped."""

    save_every: _Wait = 30.0
    """Seconds between two writes of `downloads.csv`."""

    seed: Annotated[int, whole(0, rule="seed must be at least 0")] = 0
    """Seed of the random pauses."""
