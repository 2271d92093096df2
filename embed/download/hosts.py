"""Limit requests at the same time, in all and to one host, and let hosts rest."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from embed.download.config import DownloadConfig
from embed.download.failure import PhotoFailure


class Host:
    """State of one host: its turns, its rest, and whether it was given up."""

    def __init__(self, per_host: int) -> None:
        self.turns = asyncio.Semaphore(per_host)
        self._rests_until = 0.0
        self._given_up = ""
        self._unreached_in_row = 0

    def rest(self, seconds: float) -> None:
        """Let no request begin for a number of seconds."""
        until = asyncio.get_running_loop().time() + seconds
        self._rests_until = max(self._rests_until, until)

    def rest_left(self) -> float:
        """Return the seconds until requests may begin."""
        return max(0.0, self._rests_until - asyncio.get_running_loop().time())

    def give_up(self, reason: str) -> None:
        """Let every further request of this run fail with the reason."""
        self._given_up = reason

    def check_not_given_up(self) -> None:
        """Raise PhotoFailure if the host was given up."""
        if self._given_up:
            raise PhotoFailure(self._given_up, asked=False)

    def note_reached(self) -> None:
        """Record that the host answered."""
        self._unreached_in_row = 0

    def note_unreached(self, *, limit: int) -> None:
        """Record a failed connection; give the host up after `limit` in a row."""
        self._unreached_in_row += 1
        if self._unreached_in_row >= limit:
            self.give_up(
                f"host not reached, not asked: {limit} links in a row could not be "
                f"connected to; run again later"
            )


class Hosts:
    """All hosts of a run, and their turns.

    Parameters
    ----------
    config : DownloadConfig
        Settings `concurrency` and `per_host`.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._per_host = config.per_host
        self._turns = asyncio.Semaphore(config.concurrency)
        self._hosts: dict[str, Host] = {}

    def __getitem__(self, name: str) -> Host:
        if name not in self._hosts:
            self._hosts[name] = Host(self._per_host)
        return self._hosts[name]

    @asynccontextmanager
    async def turn(self, name: str) -> AsyncIterator[Host]:
        """Wait for a turn at a host, and hold it.

        Parameters
        ----------
        name : str
            Host name of a link.

        Raises
        ------
        PhotoFailure
            If the host was given up, before or during the wait.
        """
        host = self[name]
        async with host.turns:
            while True:
                host.check_not_given_up()
                await asyncio.sleep(host.rest_left())
                async with self._turns:
                    # The host may have asked for a pause during the wait for a turn.
                    if host.rest_left() > 0:
                        continue
                    host.check_not_given_up()
                    yield host
                    return
