"""Test how the suite leaves tests out, shows its progress and shares folders."""

import os
from collections import Counter
from types import SimpleNamespace

import pytest
import quick_suite
from made_once import made_once
from progress import Progress

MARKERS = {
    "slow": pytest.mark.slow,
    "quick": pytest.mark.quick,
    "one_in": pytest.mark.one_in(2),
}


def item(nodeid, *names):
    """As much of a test as `leave_out` asks for."""
    markers = {name: MARKERS[name].mark for name in names}
    path = SimpleNamespace(name=nodeid.partition("::")[0])
    return SimpleNamespace(nodeid=nodeid, path=path, get_closest_marker=markers.get)


def config_of(*, quick):
    return SimpleNamespace(
        getoption={"--quick": quick}.get,
        stash=pytest.Stash(),
        hook=SimpleNamespace(pytest_deselected=lambda items: None),
    )


def every_item():
    return [
        item("a.py::plain"),
        item("a.py::slow", "slow"),
        item("a.py::in_a_slow_file", "slow", "quick"),
        *(item(f"b.py::of_many[{n}]", "one_in") for n in range(5)),
    ]


def test_the_quick_suite_leaves_slow_tests_out_and_says_so():
    config, items = config_of(quick=True), every_item()
    quick_suite.leave_out(config, items)
    assert [one.nodeid for one in items] == [
        "a.py::plain",
        "a.py::in_a_slow_file",
        *(f"b.py::of_many[{n}]" for n in (0, 2, 4)),
    ]
    assert quick_suite.summary(config) == [
        "Left to `make test-all`: 3 cases, and more of what the table above counts",
        "     1 of a.py: slow",
        "     2 of b.py: one case in 2 runs",
    ]


def test_the_whole_suite_leaves_nothing_out():
    config, items = config_of(quick=False), every_item()
    quick_suite.leave_out(config, items)
    assert len(items) == len(every_item())
    assert quick_suite.summary(config) == []


def test_what_a_worker_leaves_out_reaches_the_summary():
    worker, summing = config_of(quick=True), config_of(quick=True)
    worker.workeroutput = {}
    quick_suite.leave_out(worker, every_item())
    quick_suite.take_over(summing, worker.workeroutput)
    assert quick_suite.summary(summing) == quick_suite.summary(worker) != []


@pytest.mark.parametrize(
    ("quick", "picked"), [(True, [0, 3, 6]), (False, list(range(10)))]
)
def test_a_few_of_a_list_are_spread_over_it(quick, picked):
    assert quick_suite.few_of(config_of(quick=quick))(range(10), 3) == picked


class Terminal:
    def __init__(self):
        self.lines = []

    def ensure_newline(self):
        pass

    def write_line(self, line):
        self.lines.append(line)


def test_the_progress_line_names_the_files_under_way_and_how_far_they_are():
    terminal = Terminal()
    progress = Progress(terminal, seconds_between=0.0)
    names = ["tests/a.py::one", "tests/a.py::two[x::y]", "tests/b.py::three"]
    progress.pytest_xdist_node_collection_finished(names)
    progress.pytest_runtest_logstart(names[0])
    progress.pytest_runtest_logstart(names[2])
    progress.pytest_runtest_logfinish(names[0])
    progress.pytest_runtest_logstart(names[1])
    said = [line.partition(" ")[2] for line in terminal.lines]
    assert said == [
        "0 of 3 tests; now in a.py (0 of 2 done)",
        "0 of 3 tests; now in a.py (0 of 2 done), b.py (0 of 1 done)",
        "1 of 3 tests; now in b.py (0 of 1 done)",
        "1 of 3 tests; now in b.py (0 of 1 done), a.py (1 of 2 done)",
    ]


def test_the_progress_line_is_not_written_at_every_test():
    terminal = Terminal()
    progress = Progress(terminal, seconds_between=3600.0)
    progress.pytest_runtest_logstart("tests/a.py::one")
    assert terminal.lines == []


def test_a_test_whose_process_died_is_under_way_no_longer():
    progress = Progress(Terminal())
    progress.pytest_runtest_logstart("tests/a.py::one")
    progress.pytest_handlecrashitem("tests/a.py::one")
    assert progress.line().endswith("now in ")


@pytest.fixture
def factory(tmp_path):
    """A factory of folders whose run, among several processes or not, is this test."""
    of_run = tmp_path / "gw0" if "PYTEST_XDIST_WORKER" in os.environ else tmp_path
    return SimpleNamespace(getbasetemp=lambda: of_run)


def write_one(folder):
    (folder / "one").write_text("1")


def test_a_shared_folder_is_made_once(factory):
    made = Counter()

    def make(folder):
        made[folder.name] += 1
        write_one(folder)

    for _ in range(2):
        with made_once(factory, "some", make) as folder:
            assert (folder / "one").read_text() == "1"
    assert made == {"some": 1}


def test_a_shared_folder_whose_making_failed_is_made_anew(factory):
    def fail(folder):
        (folder / "half").touch()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), made_once(factory, "some", fail):
        pass
    with made_once(factory, "some", write_one) as folder:
        assert [path.name for path in folder.iterdir()] == ["one"]


@pytest.mark.parametrize("name", ["one", "another"])
def test_a_test_that_changes_a_shared_folder_is_found_out(factory, name):
    with (
        pytest.raises(AssertionError, match=rf"a test has changed \['{name}'\]"),
        made_once(factory, "some", write_one) as folder,
    ):
        (folder / name).write_text("two")
