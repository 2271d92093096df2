"""What a link may not lead to, with a resolver and an internet made up for the test."""

import dataclasses
import re
import socket
import ssl
import time

import pytest
from bad_server import BadServer
from downloads import QUICK
from downloads import download as download
from downloads import server as server

pytest.importorskip("httpcore2")
import httpcore2

from embed.download.transport import is_public

CAREFUL = {"allow_private": False}
PUBLIC = "93.184.215.14"


@dataclasses.dataclass
class Internet:
    names: dict
    server: BadServer
    connected: list = dataclasses.field(default_factory=list)
    n_lookups: int = 0


@pytest.fixture
def internet(server, monkeypatch):
    """Names get the addresses of `names`; public addresses lead to the server.

    `connected` lists the addresses that connections were opened to.
    """

    made_up = Internet({"shop.test": [PUBLIC]}, server)
    real_lookup = socket.getaddrinfo
    real_connect = httpcore2.AnyIOBackend.connect_tcp

    def look_up(host, port, *args, **kwargs):
        if host not in made_up.names:
            return real_lookup(host, port, *args, **kwargs)
        made_up.n_lookups += 1
        answers = made_up.names[host]
        if answers and isinstance(answers[0], list):
            answers = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (answer, port))
            for answer in answers
        ]

    async def connect(self, host, port, *args, **kwargs):
        made_up.connected.append(host)
        if host == PUBLIC:
            host, port = "127.0.0.1", server.port
        return await real_connect(self, host, port, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    return made_up


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1"),
        *("240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0"),
        *("fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "ff0e::1", "2001:db8::1"),
        *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::", "2002:a00:1::"),
    ],
)
def test_addresses_that_are_not_public_are_known(address):
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    [PUBLIC, "8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_are_known(address):
    assert is_public(address)


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "localhost", "[::1]", "2130706433", "0x7f000001", "0x7f.1"),
        *("0177.0.0.1", "127.1", "0", "0.0.0.0", "[::ffff:127.0.0.1]"),
        *("good@127.0.0.1", "shop.test@127.0.0.1", "shop.test%40x@127.0.0.1"),
        *("169.254.169.254", "[fe80::1]", "[::ffff:a9fe:a9fe]", "10.0.0.1"),
    ],
)
def test_links_to_private_addresses_are_refused(
    internet,
    download,
    host,
):
    (row,) = download([f"http://{host}:{internet.server.port}/ok/a.png"], **CAREFUL)
    assert row["status"] == "failed"
    # Some forms the client refuses, some a machine without IPv6 cannot resolve.
    assert re.match(
        "address is not public|host name not found|.*Invalid IPv4", row["reason"]
    ), row
    assert internet.connected == []
    assert internet.server.n_asked == 0


def test_a_private_address_is_asked_where_the_user_allows_it(
    internet,
    download,
):
    (row,) = download([f"http://127.0.0.1:{internet.server.port}/ok/a.png"])
    assert row["status"] == "ok"


def test_a_public_host_is_asked_at_the_address_that_was_checked(
    internet,
    download,
):
    (row,) = download(["http://shop.test/ok/a.png"], **CAREFUL)
    assert row["status"] == "ok", row
    assert internet.connected == [PUBLIC]
    assert "\r\nhost: shop.test\r\n" in internet.server.headers[0].lower()


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file:///etc/passwd", "redirect to no http or https link: file:"),
        ("ftp://shop.test/a.png", "redirect to no http or https link: ftp:"),
        ("http://127.0.0.1/ok/a.png", "address is not public: 127.0.0.1"),
        ("http://[::1]/ok/a.png", "address is not public: ::1"),
        ("http://169.254.169.254/latest/meta-data", "address is not public"),
        ("http://intranet.test/a.png", "address is not public: intranet.test is 10."),
        ("//localhost/a.png", "address is not public: localhost is"),
        ("http://[::1/a.png", "redirect to no usable link|HTTP 302"),
        ("http://shop.test:70000/a.png", "not a usable link: port 70000"),
    ],
)
def test_redirects_are_checked_like_links(
    internet,
    download,
    location,
    reason,
    tally,
):
    internet.names["intranet.test"] = ["10.1.2.3"]
    internet.server.location = location
    (row,) = download(["http://shop.test/away/a.png"], **CAREFUL)
    assert row["status"] == "failed"
    assert re.match(reason, row["reason"]), row
    assert internet.connected == [PUBLIC]
    assert internet.server.n_asked == 1
    tally("kinds of download faults")


def test_a_redirect_sends_no_credentials_along(internet, download):
    internet.server.location = "http://name:secret@shop.test/ok/a.png"
    (row,) = download(["http://shop.test/away/a.png"], **CAREFUL)
    assert row["status"] == "ok"
    assert "authorization" not in "".join(internet.server.headers).lower()


def test_a_second_answer_of_the_resolver_cannot_change_the_address(
    internet,
    download,
    tally,
):
    internet.names["shop.test"] = [[PUBLIC], ["127.0.0.1"]]
    (row,) = download(["http://shop.test/ok/a.png"], **CAREFUL)
    assert row["status"] == "ok"
    assert internet.connected == [PUBLIC]
    assert internet.n_lookups == 1
    (row,) = download(["http://shop.test/ok/b.png"], **CAREFUL)
    assert row["reason"].startswith("address is not public: shop.test is 127.0.0.1")
    assert internet.connected == [PUBLIC]
    tally("kinds of download faults")


def test_one_private_address_among_public_ones_is_enough(
    internet,
    download,
):
    internet.names["shop.test"] = [PUBLIC, "192.168.0.7"]
    (row,) = download(["http://shop.test/ok/a.png"], **CAREFUL)
    assert row["reason"].startswith("address is not public: shop.test is 192.168.0.7")
    assert internet.connected == []


def test_the_next_address_is_tried_if_the_first_is_dead(
    internet,
    download,
):
    with BadServer() as dead:
        pass
    assert dead.port
    internet.names["shop.test"] = ["127.0.0.2", "127.0.0.1"]
    (row,) = download([f"http://shop.test:{internet.server.port}/ok/a.png"])
    assert row["status"] == "ok", row
    assert internet.connected == ["127.0.0.2", "127.0.0.1"]


def test_a_name_that_is_not_found_is_explained(
    internet,
    download,
    monkeypatch,
    tally,
):
    codes = {"gone.test": socket.EAI_NONAME, "busy.test": socket.EAI_AGAIN}

    def look_up(host, *_, **__):
        raise socket.gaierror(codes[host], "no such name")

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    gone, busy = download([f"http://{host}/a.png" for host in codes], **CAREFUL)
    assert gone["reason"] == "host name not found: gone.test (no such name)"
    assert (gone["attempts"], busy["attempts"]) == ("1", "3")
    tally("kinds of download faults", 2)


def test_a_connection_that_never_stands_times_out(
    internet,
    download,
    monkeypatch,
    tally,
):
    async def never(self, host, port, timeout=None, *_, **__):
        assert timeout == pytest.approx(0.3, abs=0.1)
        raise httpcore2.ConnectTimeout("timed out")

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", never)
    start = time.monotonic()
    (row,) = download(["http://shop.test/a.png"], connect_timeout=0.3, **CAREFUL)
    assert row["reason"] == "no connection within 0.3 s"
    assert row["attempts"] == str(QUICK.retries + 1)
    assert time.monotonic() - start < 10
    tally("kinds of download faults")


class _Stream(httpcore2.AsyncNetworkStream):
    """Takes note of how TLS is to begin, and ends there."""

    def __init__(self, seen):
        self.seen = seen

    async def start_tls(self, ssl_context, server_hostname=None, timeout=None):
        self.seen.append((server_hostname, ssl_context))
        try:
            raise ssl.SSLCertVerificationError(1, "certificate verify failed")
        except ssl.SSLError as error:
            raise httpcore2.ConnectError(str(error)) from error

    async def aclose(self):
        pass


def test_certificates_are_checked_for_the_name_and_not_asked_for_twice(
    internet,
    download,
    monkeypatch,
    tally,
):
    seen = []

    async def connect(self, host, port, *_, **__):
        assert (host, port) == (PUBLIC, 443)
        return _Stream(seen)

    monkeypatch.setattr(httpcore2.AnyIOBackend, "connect_tcp", connect)
    (row,) = download(["https://shop.test/a.png"], **CAREFUL)
    assert row["reason"].startswith("certificate not trusted: ")
    assert row["attempts"] == "1"
    ((name, context),) = seen
    assert name == "shop.test"
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED
    tally("kinds of download faults")


def test_many_hosts_are_worked_off_few_at_a_time(internet, download):
    names = [f"shop{i}.test" for i in range(60)]
    internet.names.update({name: [PUBLIC] for name in names})
    config = dataclasses.asdict(dataclasses.replace(QUICK, concurrency=3))
    log = download([f"http://{name}/ok/{name}.png" for name in names], **config)
    assert {row["status"] for row in log} == {"ok"}
    assert internet.server.max_open <= 3
