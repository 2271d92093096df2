"""Which tests `--quick` runs: all but the slow ones, and a few of each long list.

A test is left out if it has the marker `slow` or `real`, unless it has the marker
`quick` in a slow file. Of the cases of a test with the marker `one_in(n)`, each n-th
runs. A test that goes through a list of its own asks the fixture `few_of` what to try.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import pytest

LEFT_OUT = pytest.StashKey[Counter[str]]()


def add_option(parser: pytest.Parser) -> None:
    parser.addoption(
        "--quick",
        action="store_true",
        help="Leave out slow tests, and try a few of each long list of cases.",
    )


def leave_out(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Take out of `items` what the quick suite does not run."""
    if not config.getoption("--quick"):
        return
    n_seen: Counter[str] = Counter()
    staying, left = [], []
    counts: Counter[str] = Counter()
    for item in items:
        test = item.nodeid.partition("[")[0]
        reason = _reason(item, n_seen[test])
        n_seen[test] += 1
        (left if reason else staying).append(item)
        if reason:
            counts[f"{item.path.name}: {reason}"] += 1
    items[:] = staying
    config.hook.pytest_deselected(items=left)
    config.stash[LEFT_OUT] = counts
    if hasattr(config, "workeroutput"):  # pytest-xdist's way to the summing process
        config.workeroutput["left_out"] = dict(counts)


def _reason(item: pytest.Item, number: int) -> str:
    """Return why the quick suite leaves a case out, the first one being number 0."""
    one_in = item.get_closest_marker("one_in")
    if item.get_closest_marker("quick") is None:
        for name, reason in {"real": "real catalogs", "slow": "slow"}.items():
            if item.get_closest_marker(name):
                return reason
    if one_in and number % one_in.args[0]:
        return f"one case in {one_in.args[0]} runs"
    return ""


def take_over(config: pytest.Config, workeroutput: dict[str, object]) -> None:
    """Take what a worker left out for what the whole run did: all do the same."""
    counts = workeroutput.get("left_out")
    if isinstance(counts, dict):
        config.stash[LEFT_OUT] = Counter(counts)


def summary(config: pytest.Config) -> list[str]:
    """Return lines that say how many tests of which files were left out, and why."""
    counts = config.stash.get(LEFT_OUT, Counter())
    if not counts:
        return []
    files = [f"  {n:4} of {name}" for name, n in sorted(counts.items())]
    head = "cases, and more of what the table above counts"
    return [f"Left to `make test-all`: {counts.total()} {head}", *files]


def few_of(config: pytest.Config) -> Callable[[Sequence, int], list]:
    """Return a function that picks `n` of a sequence if the suite is the quick one."""

    def pick(items: Sequence, n: int) -> list:
        if not config.getoption("--quick") or len(items) <= n:
            return list(items)
        return [items[i * len(items) // n] for i in range(n)]

    return pick
