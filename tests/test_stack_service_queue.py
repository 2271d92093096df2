import base64
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from service_standin import Standin, client_of, error_of

from stack.service.schemas import MAX_PRODUCTS
from stack.service.service import EXPLANATION_COST


@pytest.fixture
def standin():
    return Standin()


@pytest.fixture
def client(standin):
    with client_of(lambda: standin) as client:
        yield client


def test_bodies_together_take_bounded_memory(standin, monkeypatch):
    monkeypatch.setattr("stack.service.service.MAX_BODIES_BYTES", 100)
    sent = {"text": "a" * 40}
    with client_of(lambda: standin) as client, ThreadPoolExecutor(1) as other:
        standin.go.clear()
        first = other.submit(client.post, "/price", json=sent)
        wait_for_waiting(client, 1)
        response = client.post("/price", json=sent)
        standin.go.set()
        error_of(response, 503)
        assert response.headers["connection"] == "close"
        assert int(response.headers["retry-after"]) > 0
        assert first.result(10).status_code == 200
        assert client.post("/price", json=sent).status_code == 200


def wait_for_waiting(client, n_products):
    line = f"pricestack_queue_products {n_products}.0"
    end = time.monotonic() + 60
    while line not in client.get("/metrics").text:
        assert time.monotonic() < end, f"{n_products} products never waited"
        time.sleep(0.01)


def test_who_comes_when_all_places_are_taken_is_told_when_to_come_again(standin):
    with client_of(lambda: standin, max_waiting=EXPLANATION_COST) as client:
        standin.go.clear()
        products = {"products": [{"text": "tea"}] * EXPLANATION_COST}
        with ThreadPoolExecutor(1) as other:
            first = other.submit(client.post, "/prices", json=products)
            wait_for_waiting(client, EXPLANATION_COST)
            response = client.post("/price", json={"text": "tea"})
            standin.go.set()
        assert "wait" in error_of(response, 503)["message"]
        assert 1 <= int(response.headers["retry-after"]) <= 30
        assert first.result().status_code == 200
        assert client.post("/price", json={"text": "tea"}).status_code == 200


def test_the_largest_batch_is_taken_only_if_nothing_else_waits(client, standin):
    largest = {"products": [{"text": "tea"}] * MAX_PRODUCTS}
    standin.go.clear()
    with ThreadPoolExecutor(1) as other:
        first = other.submit(client.post, "/price", json={"text": "tea"})
        wait_for_waiting(client, 1)
        refused = client.post("/prices", json=largest)
        standin.go.set()
    assert first.result().status_code == 200
    error_of(refused, 503)
    assert client.post("/prices", json=largest).status_code == 200


def test_a_price_waits_for_two_explanations_at_most(client, standin, monkeypatch):
    done = []

    def explain(product):
        standin.go.wait(10)
        time.sleep(0.02)
        done.append("explanation")
        return Standin.explain(standin, product)

    def price(products):
        done.append("price")
        return Standin.price(standin, products)

    monkeypatch.setattr(standin, "explain", explain)
    monkeypatch.setattr(standin, "price", price)
    standin.go.clear()
    with ThreadPoolExecutor(6) as others:
        sent = {"text": "tea"}
        slow = [
            others.submit(client.post, "/price?explain=true", json=sent)
            for _ in range(5)
        ]
        wait_for_waiting(client, 5 * EXPLANATION_COST)
        quick = others.submit(client.post, "/price", json=sent)
        wait_for_waiting(client, 5 * EXPLANATION_COST + 1)
        for _ in range(20):
            client.get("/metrics")  # meanwhile it is handed to the thread
        standin.go.set()
    assert {one.result().status_code for one in [*slow, quick]} == {200}
    assert done.count("explanation") == 5
    assert done.index("price") <= 2


def encoded(content):
    return base64.b64encode(content).decode()


def test_a_request_that_takes_too_long_is_answered(client, standin, monkeypatch):
    monkeypatch.setattr("stack.service.answers.MAX_SECONDS", 0.05)
    standin.go.clear()
    error = error_of(client.post("/price", json={"text": "tea"}), 504)
    standin.go.set()
    assert error["where"] == "service"
    monkeypatch.setattr("stack.service.answers.MAX_SECONDS", 10)
    assert client.post("/price", json={"text": "tea"}).json()["price"] == 4.0
