import asyncio
import base64
import os
import signal
import socket
import time

import httpx2
import numpy as np
import pytest
import schemathesis
from click.testing import CliRunner
from conftest import copy_run
from hypothesis import HealthCheck, given, settings
from photo_bytes import saved
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from service_process import PATIENCE, running_service

from stack.service.command import serve_command

PHOTO = base64.b64encode(saved("JPEG")).decode()


@pytest.fixture(scope="module")
def service(processes, finished_run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("service")
    with running_service(processes, finished_run, folder) as running:
        yield running


def question(number):
    """A product; every second one with a photo, and all of different prices."""
    sent = {"text": f"Item Name: Tea {number}\nValue: {number + 1}\nUnit: Ounce"}
    if number % 2:
        sent["image"] = PHOTO
    return {**sent, "sample_id": str(number)}


async def ask_all(url, numbers, *, n_connections, seconds):
    """Ask over some connections; return answers by number, and how long each took."""
    waiting, answers = list(numbers), {}

    async def connection(client):
        while waiting:
            number = waiting.pop()
            started = time.monotonic()
            response = await client.post("/price", json=question(number))
            seconds.append(time.monotonic() - started)
            answers[number] = response

    async with httpx2.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
        await asyncio.gather(*(connection(client) for _ in range(n_connections)))
    return answers


@pytest.mark.slow
def test_under_load_every_request_gets_its_own_answer(service, tally):
    seconds = []
    before = metrics_of(service.url)
    started = time.monotonic()
    answers = asyncio.run(
        ask_all(service.url, range(200), n_connections=8, seconds=seconds)
    )
    wall = time.monotonic() - started
    p50, p99 = np.percentile(seconds, [50, 99]) * 1000
    print(f"{200 / wall:.0f} requests/s, p50 {p50:.0f} ms, p99 {p99:.0f} ms")  # noqa: T201
    after = metrics_of(service.url)
    assert {response.status_code for response in answers.values()} == {200}
    found = {number: response.json() for number, response in answers.items()}
    assert all(found[number]["sample_id"] == str(number) for number in range(200))
    asked = {"products": [question(number) for number in range(200)]}
    response = httpx2.post(
        f"{service.url}/prices", json=asked, timeout=60, trust_env=False
    )
    expected = [one["price"] for one in response.json()["prices"]]
    assert len({round(price, 6) for price in expected}) > 100
    # Batches of another size round otherwise.
    prices = [found[number]["price"] for number in range(200)]
    np.testing.assert_allclose(prices, expected, rtol=1e-4)
    name = "pricestack_batch_products_bucket"
    alone, all_batches = (
        after[f'{name}{{le="{most}"}}'] - before[f'{name}{{le="{most}"}}']
        for most in ("1.0", "+Inf")
    )
    assert alone < all_batches
    tally("requests to the service under load", 200)


def test_requests_that_wait_are_priced_together(service):
    before = batches(service.url)
    asyncio.run(ask_while_stopped(service, range(64)))
    n_batches, n_products = np.subtract(batches(service.url), before)
    assert n_products == 64
    assert n_batches < 48


async def ask_while_stopped(service, numbers):
    """Stop the service, send all questions, let it go on; return the answers."""
    n_sent = 0

    async def count(_):
        nonlocal n_sent
        n_sent += 1

    options = {"base_url": service.url, "timeout": 60, "trust_env": False}
    async with httpx2.AsyncClient(
        **options, event_hooks={"request": [count]}
    ) as client:
        os.kill(service.process.pid, signal.SIGSTOP)
        asking = [
            asyncio.create_task(client.post("/price", json=question(number)))
            for number in numbers
        ]
        while n_sent < len(numbers):
            await asyncio.sleep(0.01)
        os.kill(service.process.pid, signal.SIGCONT)
        return await asyncio.gather(*asking)


def metrics_of(url):
    lines = httpx2.get(f"{url}/metrics", trust_env=False).text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def batches(url):
    found = metrics_of(url)
    name = "pricestack_batch_products"
    return [found[f"{name}_count"], found[f"{name}_sum"]]


def test_a_client_that_goes_away_harms_nobody(service):
    host, port = service.url.removeprefix("http://").split(":")
    head = (
        "POST /price HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    )
    whole = f'{head}Content-Length: 15\r\n\r\n{{"text": "tea"}}'.encode()
    half = f"{head}Content-Length: 999\r\n\r\n{{".encode()
    for sent in (whole, half, b"nonsense\r\n\r\n", b"POST", b"") * 5:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(sent)
    response = httpx2.post(
        f"{service.url}/price", json={"text": "tea"}, timeout=60, trust_env=False
    )
    assert response.status_code == 200
    assert "Traceback" not in service.log


def test_another_name_that_leads_to_this_machine_is_refused(service):
    response = httpx2.post(
        f"{service.url}/price",
        json={"text": "tea"},
        headers={"Host": "shop.example"},
        timeout=60,
        trust_env=False,
    )
    assert response.status_code == 400
    assert response.json()["error"]["where"] == "host"
    assert "'shop.example'" in response.json()["error"]["message"]
    assert response.headers["x-content-type-options"] == "nosniff"


def test_a_body_that_is_too_long_is_answered_while_it_is_sent(service):
    response = httpx2.post(
        f"{service.url}/price",
        content=b"a" * 19_000_000,
        headers={"content-type": "application/json"},
        timeout=60,
        trust_env=False,
    )
    assert response.status_code == 413
    assert response.json()["error"]["where"] == "body"


@pytest.mark.slow
def test_answers_hold_to_the_described_schema_whatever_is_sent(service, tally):
    api = schemathesis.openapi.from_url(f"{service.url}/openapi.json")
    names = [
        "not_a_server_error",
        "status_code_conformance",
        "content_type_conformance",
        "response_headers_conformance",
        "response_schema_conformance",
        "unsupported_method",
    ]
    checks = {
        "multipart/form-data": CHECKS.get_by_names(names),
        # The fields of a form are text, whatever was put in: there, 3 is no mistake.
        "application/json": CHECKS.get_by_names([*names, "negative_data_rejection"]),
    }
    n_sent = 0
    for found in api.get_all_operations():
        operation = found.ok()
        right = operation.as_strategy()
        wrong = operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)

        @given(case=right | wrong)
        @settings(
            max_examples=30,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        )
        def hold(case):
            nonlocal n_sent
            n_sent += 1
            case.call_and_validate(checks=checks[case.media_type or "application/json"])

        hold()
    assert n_sent >= 60
    tally("requests drawn from the service's own schema", n_sent)


def test_a_stop_under_load_answers_what_was_accepted(
    processes, finished_run, tmp_path, tally
):
    with running_service(processes, finished_run, tmp_path) as running:
        answered, refused = asyncio.run(stopped_under_load(running))
        running.process.join(PATIENCE)
        assert running.process.exitcode == 0
        assert set(answered) == {200}
        assert running.n_priced == len(answered)
        assert len(answered) >= 8
        assert refused, "the load ended before the stop"
        assert "Traceback" not in running.log
        tally("requests answered around a stop", len(answered))


async def stopped_under_load(running):
    """Ask on and on; stop the service midway; return statuses and refusals."""
    answered, refused = [], []

    async def connection(client, number):
        while not refused:
            try:
                response = await client.post("/price", json=question(number))
            except httpx2.TransportError as error:
                refused.append(error)
            else:
                answered.append(response.status_code)

    options = {"base_url": running.url, "timeout": 60, "trust_env": False}
    async with httpx2.AsyncClient(**options) as client:
        asking = [asyncio.create_task(connection(client, n)) for n in range(8)]
        while len(answered) < 16:
            await asyncio.sleep(0.01)
        os.kill(running.process.pid, signal.SIGTERM)
        await asyncio.gather(*asking)
    return answered, refused


@pytest.mark.parametrize("times", [1, 3])
def test_ctrl_c_stops_it_without_an_error(processes, finished_run, tmp_path, times):
    with running_service(processes, finished_run, tmp_path) as running:
        for _ in range(times):
            os.kill(running.process.pid, signal.SIGINT)
            time.sleep(0.01)
        running.process.join(PATIENCE)
        assert running.process.exitcode == 0
        assert "Traceback" not in running.log
        assert running.log.splitlines()[-1] == "stopped; 0 products were priced"


def refusal(*arguments):
    result = CliRunner().invoke(serve_command, list(map(str, arguments)))
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    return result.output


def test_a_port_in_use_is_one_line(finished_run):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        line = refusal("--run", finished_run, "--port", port)
    assert f"--port {port}: must be a free port" in line
    assert "in use" in line


def test_an_address_of_another_machine_is_one_line(finished_run):
    line = refusal("--run", finished_run, "--host", "192.0.2.1", "--port", 0)
    assert "must be a free port of this machine" in line


@pytest.mark.parametrize("host", ["", "a..b"])
def test_a_host_that_is_no_address_is_one_line(finished_run, host):
    assert "--host" in refusal("--run", finished_run, "--host", host, "--port", 0)


@pytest.mark.parametrize("n_threads", [0, -1])
def test_no_threads_are_refused(finished_run, n_threads):
    arguments = ["--run", str(finished_run), "--threads", str(n_threads)]
    result = CliRunner().invoke(serve_command, arguments)
    assert result.exit_code == 2
    assert "'--threads'" in result.output
    assert "x>=1" in result.output


def test_an_unfinished_run_is_one_line(embedded_run):
    assert "has not finished" in refusal("--run", embedded_run)


def test_a_missing_extra_is_one_line(finished_run, monkeypatch):
    monkeypatch.setattr(
        "stack.service.command._PACKAGES", {"no_such_module": "fastapi"}
    )
    line = refusal("--run", finished_run)
    assert "needs fastapi, not installed" in line
    assert "`serve`" in line


def test_a_currency_is_a_code_of_three_letters(finished_run):
    assert "USD or INR" in refusal("--run", finished_run, "--currency", "$")


def test_a_run_that_cannot_be_loaded_ends_it_with_one_line(finished_run, tmp_path):
    run_dir = copy_run(finished_run, tmp_path / "run")
    booster = run_dir / "stack" / "booster-0.txt"
    booster.write_bytes(booster.read_bytes() + b"x")
    result = CliRunner().invoke(serve_command, ["--run", str(run_dir), "--port", "0"])
    assert result.exit_code == 2
    assert "booster-0.txt" in result.output.splitlines()[-1]
    assert "Traceback" not in result.output
