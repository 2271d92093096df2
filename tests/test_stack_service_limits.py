import asyncio
import base64
import json
import time
from importlib import metadata

import pytest
from photo_bytes import saved
from service_standin import Standin, client_of, error_of, failed_of, wait_until_ready

from embed.errors import CacheError
from stack.service import bodies
from stack.service.access import LocalHosts

PHOTO = saved("JPEG")
JSON = {"content-type": "application/json"}


@pytest.fixture
def standin():
    return Standin()


@pytest.fixture
def client(standin):
    with client_of(lambda: standin) as client:
        yield client


def test_answers_of_a_batch_are_in_its_order(client):
    products = [{"text": "x" * n, "sample_id": str(n)} for n in range(256)]
    response = client.post("/prices", json={"products": products})
    prices = response.json()["prices"]
    assert [one["sample_id"] for one in prices] == [str(n) for n in range(256)]
    assert [one["price"] for one in prices] == [1.0 + n for n in range(256)]


def test_only_one_thread_ever_predicts(client, standin):
    for path in ("/price", "/price?explain=true", "/price"):
        assert client.post(path, json={"text": "tea"}).status_code == 200
    client.post("/prices", json={"products": [{"text": "tea"}] * 40})
    assert len(standin.threads) == 1


@pytest.mark.parametrize(
    ("sent", "where"),
    [
        (b"", "body"),
        (b"{", "body"),
        (b"[]", "body"),
        (b'{"text": "a"} {}', "body"),
        (b'{"text": "\xff"}', "body"),
        (b'{"text": "\\ud800"}', "body"),
        (b'{"text": NaN}', "text"),
        (b'{"text": null}', "text"),
        (b'{"text": 3}', "text"),
        (b"{}", "text"),
        (b'{"text": "a", "prise": 3}', "prise"),
        (b'{"text": "a", "sample_id": 7}', "sample_id"),
        (b'{"text": "a", "image": ""}', "image"),
        (b'{"text": "a", "image": "data:image/png;base64,AAAA"}', "image"),
        (b'{"text": "a", "image": "\xc3\xa9"}', "image"),
        (b'{"text": "a", "image": "AAAA"}', "image"),
        (b'{"text": "' + b"a" * 100_001 + b'"}', "text"),
        (b'{"text": ' + b"[" * 100_000, "body"),
    ],
)
def test_a_wrong_field_is_named(client, sent, where):
    error = error_of(client.post("/price", content=sent, headers=JSON), 422)
    assert error["where"] == where


def test_a_photo_sent_on_purpose_that_cannot_be_read_is_an_error(client):
    files = {"photo": ("a.jpg", PHOTO[:200], "image/jpeg")}
    error = error_of(client.post("/price", data={"text": "a"}, files=files), 422)
    assert error["where"] == "photo"
    assert "truncated" in error["message"]
    broken = base64.b64encode(b"no photo").decode()
    products = [{"text": "a"}, {"text": "b", "image": broken}]
    error = failed_of(client.post("/prices", json={"products": products}), 1)
    assert error["where"] == "products[1].image"
    assert "not a photo in a known format" in error["message"]


def test_an_empty_file_field_of_a_browser_is_no_photo(client):
    boundary = "b"
    part = 'Content-Disposition: form-data; name="{}"{}\r\n\r\n{}\r\n'
    body = "".join(
        f"--{boundary}\r\n" + part.format(name, more, content)
        for name, more, content in (
            ("text", "", "tea"),
            ("photo", '; filename=""\r\nContent-Type: application/octet-stream', ""),
        )
    )
    headers = {"content-type": f"multipart/form-data; boundary={boundary}"}
    response = client.post(
        "/price", content=f"{body}--{boundary}--\r\n", headers=headers
    )
    assert response.json()["price"] == 4.0


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ([("text", b"\xff")], "text"),
        ([("text", b"a"), ("text", b"b")], "text"),
        ([("text", b"a"), ("image", b"b")], "image"),
        ([("text", b"a"), ("price", b"1")], "price"),
        ([("photo", PHOTO)], "text"),
        ([(str(n), b"") for n in range(20)], "body"),
        ([("text", b"a" * 100_001)], "text"),
    ],
)
def test_a_wrong_field_of_a_form_is_named(client, parts, where):
    files = [(name, (None, content)) for name, content in parts]
    assert error_of(client.post("/price", files=files), 422)["where"] == where


@pytest.mark.parametrize(
    "body",
    [b"", b"--b", b"--b\r\n", b"nonsense", b"--b\r\nContent-Disposition: x\r\n\r\n"],
)
def test_a_damaged_form_is_an_error(client, body):
    headers = {"content-type": "multipart/form-data; boundary=b"}
    error_of(client.post("/price", content=body, headers=headers), 422)


@pytest.mark.parametrize("n_cut", [1, 2, 3, 6, 20, len(PHOTO) // 2])
def test_a_form_that_was_cut_is_not_priced_without_its_photo(client, n_cut):
    head = '--b\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    photo = head.format("photo", '; filename="tea.jpg"').encode() + PHOTO
    body = head.format("text", "").encode() + b"tea\r\n" + photo + b"\r\n--b--"
    headers = {"content-type": "multipart/form-data; boundary=b"}
    whole = client.post("/price", content=body, headers=headers)
    assert whole.json()["price"] == 1004.0
    cut = client.post("/price", content=body[:-n_cut], headers=headers)
    assert "before its last boundary" in error_of(cut, 422)["message"]


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data"},
        {"content-type": "application/json; charset=latin-1"},
        {**JSON, "content-encoding": "gzip"},
        {},
    ],
)
def test_another_content_type_is_refused(client, headers):
    response = client.post("/price", content=b'{"text": "a"}', headers=headers)
    assert "content-" in error_of(response, 415)["where"]


@pytest.mark.parametrize("n_products", [0, 257])
def test_a_batch_has_1_to_256_products(client, n_products):
    sent = {"products": [{"text": "a"}] * n_products}
    assert error_of(client.post("/prices", json=sent), 422)["where"] == "products"


def test_a_field_deep_in_a_batch_is_named(client):
    sent = {"products": [{"text": "a"}, {"text": "b", "image": 3}]}
    error = failed_of(client.post("/prices", json=sent), 1)
    assert error["where"] == "products[1].image"


@pytest.mark.parametrize(
    ("bad", "where", "sample_id"),
    [
        (None, "products[1]", None),
        ("tea", "products[1]", None),
        ({}, "products[1].text", None),
        ({"sample_id": "b"}, "products[1].text", "b"),
        ({"text": "b", "sample_id": 3}, "products[1].sample_id", None),
        ({"text": "b", "price": 3, "sample_id": "b"}, "products[1].price", "b"),
        ({"text": "b" * 100_001}, "products[1].text", None),
        ({"text": "b", "table": {"a": [1]}}, "products[1].table.a", None),
    ],
)
def test_a_bad_product_does_not_fail_the_others(client, bad, where, sample_id):
    good = {"text": "tea", "sample_id": "a"}
    response = client.post("/prices", json={"products": [good, bad, good]})
    assert failed_of(response, 1)["where"] == where
    prices = response.json()["prices"]
    assert [one["sample_id"] for one in prices] == ["a", sample_id, "a"]
    assert prices[0] == prices[2]


def test_a_batch_of_bad_products_is_answered(client):
    response = client.post("/prices", json={"products": [{}]})
    assert failed_of(response, 0)["where"] == "products[0].text"


def test_a_body_or_photo_that_is_too_long_is_refused(client, monkeypatch):
    monkeypatch.setattr(bodies, "MAX_BODY_BYTES", 5000)
    monkeypatch.setattr("stack.service.photos.MAX_PHOTO_BYTES", 1000)
    long = client.post("/price", json={"text": "a" * 6000})
    assert error_of(long, 413)["where"] == "body"
    assert long.headers["connection"] == "close"
    # Without an announced length, too.
    pieces = client.post("/price", content=iter([b"a" * 999] * 9), headers=JSON)
    assert error_of(pieces, 413)["where"] == "body"
    image = base64.b64encode(b"a" * 1001).decode()
    photo = client.post("/price", json={"text": "a", "image": image})
    assert error_of(photo, 413)["where"] == "image"


def test_a_failure_is_answered_without_path_or_traceback(client, caplog):
    response = client.post("/price", json={"text": "bad"})
    error_of(response, 500)
    assert "secret" not in response.text
    assert "secret" in caplog.text
    assert client.post("/price", json={"text": "good"}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "where"),
    [
        ("GET", "/nothing", 404, "path"),
        ("GET", "/price", 405, "request"),
        ("POST", "/price?explain=perhaps", 422, "query.explain"),
    ],
)
def test_errors_of_the_router_have_the_same_shape(client, method, path, status, where):
    assert error_of(client.request(method, path), status)["where"] == where


def test_until_the_run_is_loaded_prices_are_refused(standin):
    standin.go.clear()
    with client_of(lambda: standin, ready=False, currency="INR") as client:
        health = client.get("/health")
        assert health.status_code == 503
        assert health.json() == {
            "status": "loading",
            "run": None,
            "chosen": None,
            "smape": None,
            "version": metadata.version("pricestack"),
            "currency": "INR",
            "table": [],
        }
        assert client.get("/ready").status_code == 503
        assert client.get("/live").json() == {"status": "live"}
        response = client.post("/price", json={"text": "tea"})
        assert "loaded" in error_of(response, 503)["message"]
        assert response.headers["retry-after"] == "5"
        standin.go.set()
        wait_until_ready(client)
        assert client.post("/price", json={"text": "tea"}).status_code == 200


def test_a_run_that_cannot_be_loaded_is_reported():
    def load():
        raise CacheError("run: broken")

    failures = []
    with client_of(load, ready=False, on_failed=failures.append) as client:
        end = time.monotonic() + 60
        while not failures and time.monotonic() < end:
            client.get("/health")
    assert [str(error) for error in failures] == ["run: broken"]


def test_metrics_count_requests_batches_and_placeholders(client):
    client.post("/price", json={"text": "tea"})
    client.post("/prices", json={"products": [{"text": "tea"}] * 3})
    client.post("/price", json={})
    client.get("/invented/path")
    response = client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    lines = response.text.splitlines()
    for line in (
        'pricestack_requests_total{path="/price",status="200"} 1.0',
        'pricestack_requests_total{path="/price",status="422"} 1.0',
        'pricestack_requests_total{path="other",status="404"} 1.0',
        'pricestack_placeholders_total{field="image"} 4.0',
        "pricestack_batch_products_sum 4.0",
        'pricestack_request_seconds_count{path="/prices"} 1.0',
        "pricestack_queue_products 0.0",
        "pricestack_ready 1.0",
    ):
        assert line in lines
    assert "invented" not in response.text


@pytest.mark.parametrize("path", ["/", "/price", "/health", "/nothing", "/page.js"])
def test_every_answer_carries_the_headers_for_safety(client, path):
    headers = client.get(path).headers
    assert "default-src 'self'" in headers["content-security-policy"]
    assert "unsafe" not in headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["x-frame-options"] == "DENY"
    assert "access-control-allow-origin" not in headers


def test_the_pages_are_small_and_name_no_other_host(client):
    paths = ["/", "/style.css", "/page.js", "/docs", "/docs.js", "/icon.svg"]
    pages = [client.get(path) for path in paths]
    assert {page.status_code for page in pages} == {200}
    assert sum(len(page.content) for page in pages) < 30_000
    text = "".join(page.text for page in pages).replace(
        "http://www.w3.org/2000/svg", ""
    )
    assert "http:" not in text
    assert "https:" not in text
    assert "style=" not in pages[0].text
    assert "onclick" not in text


def test_the_api_describes_the_bodies_it_takes(client):
    api = client.get("/openapi.json").json()
    content = api["paths"]["/price"]["post"]["requestBody"]["content"]
    assert set(content) == {"application/json", "multipart/form-data"}
    models = api["components"]["schemas"]
    assert models["ProductRequest"]["required"] == ["text"]
    assert models["ProductForm"]["properties"]["photo"]["format"] == "binary"
    assert models["BatchRequest"]["properties"]["products"]["maxItems"] == 256
    paths = {"/price", "/prices", "/health", "/live", "/ready", "/metrics"}
    assert set(api["paths"]) == paths


@pytest.mark.parametrize(
    ("host", "is_answered"),
    [
        ("127.0.0.1", True),
        ("127.0.0.1:8080", True),
        ("LocalHost:8080", True),
        ("[::1]:8080", True),
        ("shop.example", False),
        ("shop.example:8080", False),
        ("127.0.0.1.shop.example", False),
        ("localhost.shop.example", False),
        ("shop.example:80@localhost", False),
        ("localhost\n", False),
        ("", False),
    ],
)
def test_a_local_service_answers_only_to_names_of_this_machine(host, is_answered):
    scope = {
        "type": "http",
        "headers": [(b"host", host.encode())],
    }
    sent, passed = [], []

    async def app(scope, receive, send):
        passed.append(scope)

    async def send(message):
        sent.append(message)

    asyncio.run(LocalHosts(app)(scope, None, send))
    assert bool(passed) == is_answered
    if not is_answered:
        assert sent[0]["status"] == 400
        assert json.loads(sent[1]["body"])["error"]["where"] == "host"
