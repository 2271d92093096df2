"""Whatever a server does, each link ends as a photo or with its reason."""

import dataclasses
import email.utils
import re
import time

import pytest
from bad_server import BadServer, photo_of
from downloads import QUICK, photos_in
from downloads import download as download
from downloads import server as server

from embed.photos.decode import load_image

pytest.importorskip("httpx2")
from embed.download.fetch import seconds_asked
from embed.download.queue import _Queue

IMPATIENT = {"read_timeout": 0.4}
SHORT_OF_TIME = {"deadline": 0.6}

SLOW_FAULTS = {"429": 3, "drip": 5, "hang": 5}  # of 2,000 links
# What a link of a kind must end as: status, reason, asks, settings.
FAULTS = {
    "429": ("ok", "", 2, {}),
    "503-once": ("ok", "", 2, {}),
    "503": ("failed", "HTTP 503 Service Unavailable", 3, {}),
    "404": ("failed", "HTTP 404 Not Found", 1, {}),
    "410": ("failed", "HTTP 410 Gone", 1, {}),
    "403": ("failed", "HTTP 403 Forbidden", 1, {}),
    "drip": ("failed", "not complete after 0.6 s", 3, SHORT_OF_TIME),
    "hang": ("failed", "no byte for 0.4 s", 3, IMPATIENT),
    "hang-once": ("ok", "", 2, {"read_timeout": 3.0}),
    "cut": ("failed", "connection broken: peer closed .* message body", 3, {}),
    "cut-once": ("ok", "", 2, {}),
    "cut-unannounced": ("failed", "truncated file", 1, {}),
    "drop": ("failed", "connection broken: Server disconnected", 3, {}),
    "photo-as-text": ("ok", "", 1, {}),
    "html": ("failed", r"not a photo .* \(sent as text/html\)", 1, {}),
    "html-as-photo": ("failed", "not a photo in a known format$", 1, {}),
    "empty": ("failed", "empty file", 1, {}),
    "too-short-length": ("failed", "truncated file", 1, {}),
    "length-of-words": ("failed", "connection broken: .*Content-Length", 3, {}),
    "huge-length": ("failed", "too many bytes: 10000000000000 announced", 1, {}),
    "huge": ("failed", "too many bytes: at most 1048576 are read", 1, {}),
    "many-pixels": ("failed", "too large: 9000 x 9000", 1, {}),
    "bomb": ("failed", "too many bytes: at most 1048576 are read", 1, {}),
    "gzip": ("ok", "", 1, {}),
    "bad-gzip": ("failed", "damaged compression", 1, {}),
    "coded": ("failed", "unexpected compression: br", 1, {}),
    "garbage": ("failed", "connection broken", 3, {}),
    "loop": ("failed", "more than 5 redirects", 1, {}),
    "hops/5": ("ok", "", 1, {}),
    "hops/6": ("failed", "more than 5 redirects", 1, {}),
    "nowhere": ("failed", "HTTP 302 Found", 1, {}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_each_fault_ends_as_it_should(server, download, tmp_path, kind, tally):
    status, reason, attempts, settings = FAULTS[kind]
    (row,) = download([f"{server.url}/{kind}/a.png"], **settings)

    assert (row["status"], row["attempts"]) == (status, str(attempts)), row
    assert re.match(reason, row["reason"]), row
    assert photos_in(tmp_path / "photos") == ["a.png"] * (status == "ok")
    if status == "ok":
        assert row["reason"] == ""
        stored = tmp_path / "photos" / "a.png"
        assert stored.stat().st_size == int(row["bytes"])
        assert load_image(stored, size=32).std() > 0
    tally("kinds of download faults")


def test_two_thousand_links_with_a_tenth_of_faults_are_all_settled(
    server, download, tmp_path, few_of, tally
):
    n = len(few_of(range(2000), 300))
    shares = {kind: n * share // 2000 for kind, share in SLOW_FAULTS.items()}
    kinds = ["503-once", "404", "cut", "html", "loop", "too-short-length", "bomb"]
    faults = [kind for kind, share in shares.items() for _ in range(share)]
    faults += [kinds[i % len(kinds)] for i in range(n // 10 - len(faults))]
    links = [
        f"{server.url}/{faults[i // 10] if i % 10 == 0 else 'ok'}/{i}.png"
        for i in range(n)
    ]
    log = download(
        links, per_host=16, retries=1, read_timeout=10.0, deadline=12.0, backoff=0.1
    )

    assert [row["image_link"] for row in log] == links
    for link, row in zip(links, log, strict=True):
        path = link.removeprefix(server.url)
        kind = path.split("/")[1]
        if kind in ("ok", "429", "503-once"):
            assert row["status"] == "ok", row
            assert (tmp_path / "photos" / row["file"]).read_bytes() == photo_of(path)
        else:
            assert row["status"] == "failed", row
            settings = FAULTS[kind][3]
            expected = FAULTS[kind][1] if not settings else "not complete|no byte"
            assert re.match(expected, row["reason"]), row
    n_good = sum(row["status"] == "ok" for row in log)
    assert len(photos_in(tmp_path / "photos")) == n_good > 0.9 * n
    tally("links asked for from the misbehaving server", n)


def test_a_kept_connection_that_breaks_is_no_failure_of_the_next_photo(
    server, download
):
    links = [f"{server.url}/then-stale/{i}.png" for i in range(5)]
    log = download(links, per_host=1, retries=0)
    assert [(row["status"], row["attempts"]) for row in log] == [("ok", "1")] * 5


def test_a_host_that_says_retry_after_is_left_alone_by_all(server, download):
    server.retry_after = "1"
    links = [f"{server.url}/429/a.png", *(f"{server.url}/ok/{i}.png" for i in range(9))]
    log = download(links, per_host=1)
    assert {row["status"] for row in log} == {"ok"}
    times = sorted(time for times in server.times.values() for time in times)
    first = server.times["/429/a.png"][0]
    assert min(at - first for at in times if at > first) >= 0.95


def test_retry_after_may_be_a_date(server, download):
    server.retry_after = email.utils.formatdate(time.time() + 2, usegmt=True)
    (row,) = download([f"{server.url}/429/a.png"])
    assert row["status"] == "ok"
    first, second = server.times["/429/a.png"]
    assert second - first >= 0.8  # dates have whole seconds


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("7", 7),
        ("0", 0),
        ("", 0),
        ("-3", 0),
        ("soon", 0),
        ("1.5", 0),
        ("Thu, 01 Jan 1970 00:20:00 GMT", 200),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0),
        ("9" * 400, float("inf")),
        ("Thu, 99 Jan 1970 00:00:01 GMT", 0),
    ],
)
def test_retry_after_is_seconds_or_a_date_or_nothing(written, seconds):
    assert seconds_asked(written, now=1000.0) == seconds


def test_a_host_that_asks_for_too_long_a_pause_is_not_asked_again(server, download):
    server.retry_after = "3600"
    links = [f"{server.url}/429/{i}.png" for i in range(5)]
    log = download(links, per_host=1)
    assert server.n_asked == 1
    for row in log:
        assert row["status"] == "failed"
        assert re.search(r"too long a pause \(HTTP 429 .*\): 3600 s", row["reason"])
    assert [row["attempts"] for row in log] == ["1", "0", "0", "0", "0"]


def test_a_dead_host_is_given_up_and_the_others_are_not(server, download, tally):
    with BadServer() as dead:
        pass
    links = [f"http://localhost:{dead.port}/ok/{i}.png" for i in range(12)]
    log = download(
        [*links, f"{server.url}/ok/a.png"], give_up_host_after=3, per_host=1, retries=0
    )
    assert log[-1]["status"] == "ok"
    reasons = [row["reason"] for row in log[:-1]]
    assert [row["status"] for row in log[:-1]] == ["failed"] * 12
    assert all(reason.startswith("no connection: ") for reason in reasons[:3])
    assert all(reason.startswith("host not reached") for reason in reasons[3:])
    tally("kinds of download faults")


def test_no_more_requests_are_open_at_once_than_allowed(server, download):
    server.wait_for_open = 3
    links = [f"{server.url}/ok/{i}.png" for i in range(24)]
    download(links, per_host=3)
    assert server.max_open == 3
    server.max_open, server.wait_for_open = 0, 4
    names = ("127.0.0.1", "localhost")
    many = [
        f"http://{name}:{server.port}/ok/x{i}.png" for i in range(12) for name in names
    ]
    ids = [f"n{i}" for i in range(len(many))]
    download(many, ids=ids, out="other", per_host=8, concurrency=5)
    assert 3 < server.max_open <= 5


def test_pauses_grow_jitter_and_repeat_for_a_seed(tmp_path):
    def pauses(seed):
        queue = _Queue(dataclasses.replace(QUICK, backoff=1.0, seed=seed), None)
        return [queue._pause(attempt) for attempt in range(1, 40)]

    assert pauses(1) == pauses(1) != pauses(2)
    many = [pauses(seed) for seed in range(200)]
    for attempt in range(8):
        longest = min(QUICK.max_backoff, 2.0**attempt)
        drawn = [one[attempt] for one in many]
        assert max(drawn) <= longest
        assert max(drawn) > 0.9 * longest
        assert min(drawn) < 0.1 * longest
