"""Write to the terminal which files of tests are under way, as tests start and end."""

import time
from collections import Counter

import pytest

SECONDS_BETWEEN_LINES = 20.0


class Progress:
    """Count the tests of each file as they end, in one process or in several.

    Parameters
    ----------
    terminal : pytest.TerminalReporter
        Where the lines go.
    seconds_between : float
        Least time between two lines.
    """

    def __init__(
        self,
        terminal: pytest.TerminalReporter,
        *,
        seconds_between: float = SECONDS_BETWEEN_LINES,
    ) -> None:
        self._terminal = terminal
        self._seconds_between = seconds_between
        self._started = self._last_line = time.monotonic()
        self._n_tests: Counter[str] = Counter()
        self._n_done: Counter[str] = Counter()
        self._running: list[str] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._count(item.nodeid for item in session.items)

    @pytest.hookimpl(optionalhook=True)  # pytest-xdist's
    def pytest_xdist_node_collection_finished(self, ids: list[str]) -> None:
        self._count(ids)

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._running.append(_file(nodeid))
        self._write_line_if_due()

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        file = _file(nodeid)
        self._running.remove(file)
        self._n_done[file] += 1
        self._write_line_if_due()

    @pytest.hookimpl(optionalhook=True)  # pytest-xdist's, of a worker that died
    def pytest_handlecrashitem(self, crashitem: str) -> None:
        self._running.remove(_file(crashitem))

    def line(self) -> str:
        """Return, in words, how far the run and each file under way have come."""
        files = ", ".join(
            f"{file} ({self._n_done[file]} of {self._n_tests[file]} done)"
            for file in dict.fromkeys(self._running)
        )
        minutes, seconds = divmod(int(time.monotonic() - self._started), 60)
        n_done, n_tests = self._n_done.total(), self._n_tests.total()
        return f"{minutes}:{seconds:02} {n_done} of {n_tests} tests; now in {files}"

    def _count(self, node_ids) -> None:
        # Every process collects all tests, so the last count is as good as the first.
        self._n_tests = Counter(map(_file, node_ids))

    def _write_line_if_due(self) -> None:
        now = time.monotonic()
        if self._running and now - self._last_line >= self._seconds_between:
            self._last_line = now
            self._terminal.ensure_newline()
            self._terminal.write_line(self.line())


def _file(nodeid: str) -> str:
    return nodeid.partition("::")[0].rpartition("/")[2]
