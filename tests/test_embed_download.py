"""The job: what is asked for, what is kept, what the record and the command say."""

import gc
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from downloads import call, log_of, photos_in, write_catalog
from downloads import download as download
from downloads import server as server

from embed.catalog.reader import CatalogError, read_catalog
from embed.download import job
from embed.download.config import DownloadConfig
from embed.download.fetch import PhotoClient
from embed.download.folder import PhotoFolder
from embed.download.log import COLUMNS
from embed.errors import ConfigError
from embed.photos.decode import load_image
from embed.photos.files import find_photos, match_photos
from embed.photos.log import LOG_NAME
from embed.store.lock import LockedError, run_lock

pytest.importorskip("httpx2")

REPOSITORY = Path(__file__).resolve().parents[1]


def test_a_second_run_asks_only_for_what_failed(server, download, tmp_path):
    links = [f"{server.url}/{kind}/{kind}.png" for kind in ("ok", "404", "503-once")]
    first = download(links, retries=0)
    assert [row["status"] for row in first] == ["ok", "failed", "failed"]
    server.asked.clear()
    server.asked["/503-once/503-once.png"] = 1
    second = download(links)
    assert [row["status"] for row in second] == ["kept", "failed", "ok"]
    assert [row["attempts"] for row in second] == ["0", "1", "1"]
    assert second[0]["bytes"] == first[0]["bytes"]
    assert server.asked["/ok/ok.png"] == 0


def test_photos_are_kept_without_a_record_if_they_decode(server, download, tmp_path):
    links = [f"{server.url}/ok/{name}.png" for name in "ab"]
    download(links)
    (tmp_path / "photos" / LOG_NAME).unlink()
    half = (tmp_path / "photos" / "b.png").read_bytes()[:300]
    (tmp_path / "photos" / "b.png").write_bytes(half)
    log = download(links)
    assert [row["status"] for row in log] == ["kept", "ok"]
    assert server.asked == {"/ok/a.png": 1, "/ok/b.png": 2}


def test_a_photo_changed_since_it_was_recorded_is_decoded_again(
    server, download, tmp_path
):
    link = f"{server.url}/ok/a.png"
    download([link])
    (tmp_path / "photos" / "a.png").write_bytes(b"no photo")
    assert download([link])[0]["status"] == "ok"
    assert server.asked["/ok/a.png"] == 2


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_run_leaves_whole_photos_and_the_next_one_finishes(
    server, tmp_path, how
):
    server.most_answered = 30  # stopped amid these, however slow the machine is
    links = [f"{server.url}/ok/{i}.png" for i in range(150)]
    catalog = write_catalog(tmp_path / "catalog.csv", links)
    out = tmp_path / "photos"
    command = [sys.executable, "-c", "from stack.cli import main; main()", "images"]
    arguments = ["--catalog", str(catalog), "--out", str(out), "--allow-private"]
    process = subprocess.Popen(
        command + arguments, cwd=REPOSITORY, stderr=subprocess.PIPE, text=True
    )
    while len(whole_photos(out)) < 15 and process.poll() is None:
        time.sleep(0.02)
    os.kill(process.pid, how)
    _, errors = process.communicate(timeout=120)
    there = whole_photos(out)
    assert 15 <= len(there) <= 30, errors
    for name in there:
        load_image(out / name, size=32)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in errors
        statuses = [row["status"] for row in log_of(out)]
        assert set(statuses) == {"ok", "not asked"}
        assert set(there) >= {row["file"] for row in log_of(out) if row["file"]}

    server.asked.clear()
    server.most_answered = len(links)
    result = call(*arguments)
    assert result.exit_code == 0, result.output
    assert server.n_asked == 150 - len(there)
    assert photos_in(out) == sorted(link.rpartition("/")[2] for link in links)


def whole_photos(out):
    names = photos_in(out) if out.is_dir() else []
    return [name for name in names if not name.startswith(".")]


def test_ctrl_c_does_not_wait_for_all_photos_to_be_checked(
    server, download, tmp_path, monkeypatch
):
    links = [f"{server.url}/ok/{i}.png" for i in range(100)]
    download(links)
    (tmp_path / "photos" / LOG_NAME).unlink()
    checked = []

    def stop(self, file):
        checked.append(file)
        time.sleep(0.01)
        if len(checked) == 3:
            raise KeyboardInterrupt
        return True

    monkeypatch.setattr(PhotoFolder, "is_photo", stop)
    with pytest.raises(KeyboardInterrupt):
        download(links)
    assert len(checked) < 50
    assert len(log_of(tmp_path / "photos")) == 100


def test_ctrl_c_amid_a_request_leaves_no_traceback(
    server, download, monkeypatch, caplog
):
    fetch, n_asked = PhotoClient.fetch, 0

    async def stop_amid_the_links(client, link):
        nonlocal n_asked
        n_asked += 1
        if n_asked == 30:
            for _ in range(2):  # impatiently
                signal.raise_signal(signal.SIGINT)
        return await fetch(client, link)

    monkeypatch.setattr(PhotoClient, "fetch", stop_amid_the_links)
    with pytest.raises(KeyboardInterrupt):
        download([f"{server.url}/ok/{i}.png" for i in range(60)], per_host=2)
    gc.collect()  # what ended a task is logged when the task is forgotten
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert [record for record in caplog.records if record.name == "asyncio"] == []


def test_the_record_is_written_while_the_work_goes_on(
    server, download, tmp_path, monkeypatch
):
    written = []
    write = job.write_log

    def write_and_note(path, rows):
        write(path, rows)
        written.append(sum(row["status"] == "ok" for row in log_of(path.parent)))

    monkeypatch.setattr(job, "write_log", write_and_note)
    download([f"{server.url}/ok/{i}.png" for i in range(5)], save_every=0.0)
    assert written == [1, 2, 3, 4, 5, 5]


def test_a_disk_that_fills_up_ends_the_run_as_one_line_and_keeps_the_record(
    server, tmp_path, monkeypatch
):
    links = [f"{server.url}/ok/{i}.png" for i in range(9)]
    replace, calls = os.replace, iter(range(100))

    def full(source, target):
        if str(target).endswith(".png") and next(calls) >= 3:
            raise OSError(28, "No space left on device", str(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    catalog = write_catalog(tmp_path / "catalog.csv", links)
    result = call("--catalog", catalog, "--out", tmp_path / "out", "--allow-private")
    assert result.exit_code == 2
    assert "No space left on device" in result.output
    assert len(result.output.strip().split("\n")) == 1
    assert len(photos_in(tmp_path / "out")) == 3


def test_equal_links_are_asked_for_once(server, download, tmp_path):
    log = download([f"{server.url}/ok/a.png"] * 3)
    assert [row["status"] for row in log] == ["ok"] * 3
    assert {row["file"] for row in log} == {"a.png"}
    assert server.n_asked == 1


def test_links_with_one_last_part_get_their_own_photos(server, download, tmp_path):
    links = [f"{server.url}/ok/{i}/image.png" for i in (1, 2, 2)]
    log = download([*links, f"{server.url}/404/3/image.png"])
    assert [row["file"] for row in log] == ["id0.png", "id1.png", "id2.png", ""]
    assert server.n_asked == 3
    catalog = read_catalog(tmp_path / "catalog.csv")
    first, second, third, fourth = find_photos(catalog, tmp_path / "photos")
    assert first.name == "id0.png"
    assert second.read_bytes() == third.read_bytes() != first.read_bytes()
    assert fourth is None


@pytest.mark.parametrize(
    ("part", "file"),
    [
        ("a b.png", "a b.png"),
        ("фото.png", "фото.png"),
        ("a%20b.png", "a%20b.png"),
        ("a.png?width=3#top", "a.png"),
        ("%2e%2e%2fa.png", "%2e%2e%2fa.png"),
        ("..", "id0.jpg"),
        ("", "id0.jpg"),
        ("x" * 300 + ".png", "id0.png"),
        ("a:b.png", "id0.png"),
        ("downloads.csv", "id0.jpg"),
    ],
)
def test_unusual_last_parts_are_asked_for_and_found_again(
    server, download, tmp_path, part, file
):
    (row,) = download([f"{server.url}/ok/{part}"])
    assert (row["status"], row["file"]) == ("ok", file)
    catalog = read_catalog(tmp_path / "catalog.csv")
    assert find_photos(catalog, tmp_path / "photos") == (tmp_path / "photos" / file,)


def test_a_photo_of_another_catalog_is_neither_overwritten_nor_taken(
    server, download, tmp_path
):
    download([f"{server.url}/ok/1/a.png"])
    before = (tmp_path / "photos" / "a.png").read_bytes()
    for _ in range(2):
        (row,) = download([f"{server.url}/ok/2/a.png"])
        assert row["status"] == "taken"
        assert row["reason"].startswith("another file has its name: a.png")
    assert (tmp_path / "photos" / "a.png").read_bytes() == before
    (tmp_path / "photos" / "a.png").unlink()
    assert download([f"{server.url}/ok/2/a.png"])[0]["status"] == "ok"


def test_embedding_takes_no_photo_that_the_record_says_is_anothers(
    server, download, tmp_path
):
    download([f"{server.url}/ok/1/a.png"])
    links = [f"{server.url}/ok/2/a.png", f"{server.url}/404/b.png"]
    assert [row["status"] for row in download(links)] == ["taken", "failed"]
    found = match_photos(read_catalog(tmp_path / "catalog.csv"), tmp_path / "photos")
    assert found.paths == (None, None)
    assert found.reasons[0].startswith("downloads.csv: taken: another file has its")
    assert found.reasons[1].startswith("downloads.csv: failed: HTTP 404 Not Found")


def test_the_first_of_several_links_in_a_cell_is_asked_for(server, tmp_path):
    links = [f"{server.url}/ok/a.png, {server.url}/ok/b.png"]
    catalog = write_catalog(tmp_path / "catalog.csv", links)
    out = tmp_path / "photos"
    result = call("--catalog", catalog, "--out", out, "--allow-private")
    assert "1 cell of column 'image_link' with several links" in result.output
    assert photos_in(out) == ["a.png"]
    assert find_photos(read_catalog(catalog), out) == (out / "a.png",)


def test_a_catalog_that_grows_does_not_mix_up_photos(server, download, tmp_path):
    links = [f"{server.url}/ok/{i}/a.png" for i in (1, 2)]
    download(links[:1])
    log = download(links)
    assert [row["status"] for row in log] == ["kept", "taken"]


def test_rows_without_a_usable_link_are_explained(download, server):
    links = ["", "ftp://h/a.png", "data:image/png;base64,AAAA", "photos/1.jpg"]
    links += ["http://", "http://h:99999/b.png", "file:///etc/hosts", "http://[::1/"]
    log = download([*links, f"{server.url}/ok/ok.png"])
    assert log[0]["status"] == "no link"
    for row in log[1:-1]:
        assert row["status"] == "failed", row
        assert row["attempts"] == "0"
        assert re.match("not an http or https link|not a usable link", row["reason"])
    assert log[-1]["status"] == "ok"


def test_a_catalog_without_links_is_an_error(download):
    with pytest.raises(CatalogError, match="no row has a link in column 'image_link'"):
        download(["", ""])


def test_an_out_folder_that_cannot_be_used_is_an_error(download, tmp_path, monkeypatch):
    (tmp_path / "photos").write_text("a file")
    with pytest.raises(ConfigError, match="must be a folder, found a file"):
        download(["http://127.0.0.1/a.png"])

    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", refused)  # chmod does not stop root
    with pytest.raises(ConfigError, match=r"cannot be written to \(Permission denied"):
        download(["http://127.0.0.1/a.png"], out="other")


def test_a_foreign_record_is_refused_and_left_as_it_is(download, tmp_path):
    (tmp_path / "photos").mkdir()
    record = tmp_path / "photos" / LOG_NAME
    record.write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="not the record of an earlier run"):
        download(["http://127.0.0.1/a.png"])
    assert record.read_text() == "a,b\n1,2\n"


def test_without_the_client_the_error_says_how_to_get_it(download, monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx2", None)
    with pytest.raises(ConfigError, match=r"pip install httpx2"):
        download(["http://127.0.0.1/a.png"])


def test_two_runs_do_not_work_on_one_folder(download, tmp_path):
    with run_lock(tmp_path / "photos"), pytest.raises(LockedError, match="in use by"):
        download(["http://127.0.0.1/a.png"])


def test_leftovers_of_a_killed_run_are_removed(server, download, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / ".download-1-1.part").write_bytes(b"half")
    download([f"{server.url}/ok/a.png"])
    assert photos_in(tmp_path / "photos") == ["a.png"]


def test_requests_name_pricestack_and_carry_no_credentials_or_cookies(
    server, download, monkeypatch, tmp_path
):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    link = server.url.replace("//", "//good:secret@")
    log = download([f"{link}/cookie/a.png", f"{link}/cookie/b.png"], per_host=1)
    assert [row["status"] for row in log] == ["ok", "ok"]
    assert len(server.headers) == 2
    for request in server.headers:
        assert re.search(r"^user-agent: pricestack/\d", request, re.I | re.M)
        assert not re.search("^(authorization|cookie):", request, re.I | re.M)
        assert "secret" not in request


def test_the_command_tells_counts_and_reasons(server, tmp_path):
    links = [f"{server.url}/{kind}/{i}.png" for i, kind in enumerate(("ok", "404"))]
    catalog = write_catalog(tmp_path / "catalog.csv", [*links, ""])
    out = tmp_path / "photos"
    result = call("--catalog", catalog, "--out", out, "--allow-private")
    assert result.exit_code == 0, result.output
    assert "1 products have their photo" in result.output
    assert "2 have not: 1 HTTP 404 Not Found, 1 without a link" in result.output
    assert str(out / LOG_NAME) in result.output
    assert tuple(log_of(out)[0]) == COLUMNS


@pytest.mark.parametrize(
    ("setting", "rule"),
    [
        ({"per_host": 0}, "--per-host must be at least 1, got 0"),
        ({"retries": -1}, "--retries must be at least 0, got -1"),
        (
            {"deadline": 0.0},
            r"--timeout must be a positive number of seconds, got 0\.0",
        ),
        ({"max_bytes": 0}, "max bytes must be at least 1, got 0"),
    ],
)
def test_settings_that_no_run_can_use_are_refused(setting, rule):
    with pytest.raises(ConfigError, match=rule):
        DownloadConfig(**setting)


def test_help_does_not_bring_the_client():
    code = (
        "import sys\nfrom stack.cli import main\n"
        "try:\n    main(['images', '--help'])\nexcept SystemExit:\n    pass\n"
        "assert 'httpx2' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "--allow-private" in done.stdout
