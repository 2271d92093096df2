"""A service behind a proxy, with a key, and for pages of other origins."""

import logging
import re

import pytest
from fastapi.testclient import TestClient
from service_standin import Standin, error_of, wait_until_ready

from embed.errors import ConfigError
from stack.service.access import Access, read_key
from stack.service.app import create_app
from stack.service.metrics import Metrics
from stack.service.observe import Observed
from stack.service.service import Service

KEY = "0123456789abcdef"
TEA = {"text": "tea"}


@pytest.fixture
def client_with():
    """Return a client of a ready service with some access."""
    clients = []

    def start(root: str = "", headers=None, **access) -> TestClient:
        allowed = Access(root_path=root, **access)
        service = Service(Standin, Metrics())
        observed = Observed(
            allowed.around(create_app(service), is_local=False),
            service.metrics,
            [f"{root}/price"],
            logs_requests=allowed.logs_requests,
        )
        client = TestClient(allowed.below_prefix(observed), headers=headers)
        clients.append(client.__enter__())
        wait_until_ready(client)
        return client

    yield start
    for client in clients:
        client.__exit__(None, None, None)


@pytest.mark.parametrize("path", ["/price", "/shop/prices/price"])
def test_a_proxy_may_cut_the_prefix_off_or_leave_it(client_with, path):
    client = client_with("/shop/prices")
    assert client.post(path, json=TEA).json()["price"] == 4
    assert 'path="/shop/prices/price"' in client.get("/metrics").text
    servers = client.get("/openapi.json").json()["servers"]
    assert servers == [{"url": "/shop/prices"}]


def test_links_of_the_pages_are_relative(client_with):
    client = client_with("/shop")
    for page in ("/shop/", "/shop/docs"):
        links = re.findall(r'(?:href|src)="([^"#]+)"', client.get(page).text)
        assert links
        assert not [link for link in links if link.startswith(("/", "http"))]


def test_prices_need_the_key(client_with):
    client = client_with(headers={"Authorization": f"Bearer {KEY}"}, key=KEY)
    assert client.post("/price", json=TEA).status_code == 200
    for wrong in (
        "",
        "Bearer ",
        f"Bearer {KEY}0",
        f"Basic {KEY}",
        "Bearer ключ".encode(),
    ):
        for method, path in (
            ("POST", "/price"),
            ("POST", "/prices"),
            ("GET", "/health"),
            ("GET", "/metrics"),
        ):
            response = client.request(
                method, path, json=TEA, headers={"Authorization": wrong}
            )
            assert error_of(response, 401)["where"] == "header Authorization"
            assert response.headers["www-authenticate"] == "Bearer"
            assert KEY not in response.text


@pytest.mark.parametrize("path", ["/price", "/shop/price"])
def test_the_key_is_asked_for_behind_a_prefix_too(client_with, path):
    headers = {"Authorization": f"Bearer {KEY}"}
    client = client_with("/shop", headers=headers, key=KEY)
    answer = client.post(path, json=TEA, headers={"Authorization": ""})
    assert answer.status_code == 401


def test_probes_and_pages_need_no_key(client_with):
    client = client_with(headers={"Authorization": f"Bearer {KEY}"}, key=KEY)
    for path in ("/live", "/ready", "/", "/docs", "/page.js", "/openapi.json"):
        answer = client.get(path, headers={"Authorization": ""})
        assert answer.status_code == 200


def test_only_named_origins_may_read(client_with):
    client = client_with(
        headers={"Authorization": f"Bearer {KEY}"},
        key=KEY,
        origins=("https://shop.example",),
    )
    asked = {"Access-Control-Request-Method": "POST", "Authorization": ""}
    for origin, allowed in (
        ("https://shop.example", True),
        ("https://shop.example.evil", False),
        ("http://shop.example", False),
    ):
        preflight = client.options("/price", headers={**asked, "Origin": origin})
        answer = client.post("/price", json=TEA, headers={"Origin": origin})
        for response in (preflight, answer):
            named = response.headers.get("access-control-allow-origin")
            assert named == (origin if allowed else None)


def test_requests_are_logged_if_asked_for(client_with, caplog):
    with caplog.at_level(logging.INFO):
        client_with().post("/price", json=TEA)
        assert "POST /price" not in caplog.text
        client_with(logs_requests=True).post("/price", json=TEA)
    assert re.search(r"POST /price 200 \d\.\d{3} s", caplog.text)


@pytest.mark.parametrize("root", ["prices", "/prices/", "//", "/a b", "/a?b"])
def test_a_prefix_that_is_no_path_is_refused(root):
    with pytest.raises(ConfigError, match="--root-path: must be a path"):
        Access(root_path=root)


@pytest.mark.parametrize("origin", ["*", "shop.example", "https://shop.example/"])
def test_an_origin_that_is_none_is_refused(origin):
    with pytest.raises(ConfigError, match="--allow-origin: must be a scheme"):
        Access(origins=(origin,))


@pytest.mark.parametrize(
    "content", ["", "short", "sixteen chars and blanks", "ключ" * 8]
)
def test_a_weak_key_is_refused(tmp_path, content):
    path = tmp_path / "key"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"--api-key-file .* at least 16"):
        read_key(path)


def test_a_key_is_the_line_of_its_file(tmp_path):
    path = tmp_path / "key"
    path.write_text(f"{KEY}\n")
    assert read_key(path) == KEY
