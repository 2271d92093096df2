"""Bad photos: each gives its right pixels, or a placeholder and the reason for it."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from bad_images import KINDS, undo_changes, write_corpus
from photo_bytes import PIXELS, SIZE

from embed.config import EmbedConfig
from embed.photos.decode import decode_thumbnail
from embed.store.arrays import RaggedRows

TESTS = Path(__file__).parent
ONE_IN = 12  # kinds, in the quick suite
MOST_SECONDS = 20  # of computing
HANGS = 300  # seconds, on a machine with much else to do
MOST_GROWTH = 512  # MiB, to decode one photo
MOST_MEMORY = 1024  # MiB, to embed them all, beyond the libraries

READ_EACH = f"""
import faulthandler
import json
import re
import sys
import time
from pathlib import Path

import numpy as np

from bad_images import change_after_listing, give_up_root_rights
from embed.errors import UnreadableImage
from embed.photos.decode import load_image
from embed.photos.files import find_image
from embed.photos.index import index_images


def memory(field):
    status = Path("/proc/self/status").read_text()
    return int(re.search(field + r":\\s+(\\d+) kB", status)[1]) / 1024


folder, links, found = Path(sys.argv[1]), json.loads(sys.argv[2]), {{}}
give_up_root_rights()
index = index_images(folder)
change_after_listing(folder)
for name, link in links.items():
    faulthandler.dump_traceback_later({HANGS}, exit=True)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, started, pixels = memory("VmRSS"), time.process_time(), None
    print(name, file=sys.stderr)
    try:
        path = find_image(index, image_link=link, sample_id="no such id")
        reason = "not found"
        if path is not None:
            pixels, reason = load_image(path, size={SIZE}).tolist(), ""
    except UnreadableImage as problem:
        reason = str(problem)
    seconds = time.process_time() - started
    growth = memory("VmHWM") - before
    found[name] = dict(pixels=pixels, reason=reason, growth=growth, seconds=seconds)
print(json.dumps(found))
"""

EMBED_ALL = """
import json
import sys
from pathlib import Path

import embed.extract
from bad_images import change_after_listing, give_up_root_rights
from embed.catalog.reader import read_catalog
from embed.config import EmbedConfig

list_photos = embed.extract.match_photos


def peak():  # `ru_maxrss` is at least what the process had that started this one
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def list_then_change(catalog, images_dir):
    photos = list_photos(catalog, images_dir)
    change_after_listing(images_dir)
    return photos


embed.extract.match_photos = list_then_change
give_up_root_rights()
folder = Path(sys.argv[1])
imported = peak()
embed.extract.extract(
    read_catalog(folder / "catalog.csv"),
    folder / "run",
    images_dir=folder / "images",
    config=EmbedConfig(**json.loads(sys.argv[2])),
)
print(peak() - imported)
"""


@dataclass(frozen=True, kw_only=True)
class Embedded:
    """What one run over all kinds left behind."""

    rows: dict[str, int]
    image: np.ndarray
    image_ok: np.ndarray
    thumbnails: RaggedRows
    reasons: dict[str, str]
    memory: float


def run_child(code: str, *arguments: str, seconds: float) -> str:
    path = os.pathsep.join((str(TESTS.parent), str(TESTS)))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        text=True,
        timeout=seconds,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def corpus(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory):
    """Write one photo of each kind that is tried: the folder, and the link to each."""
    folder = tmp_path_factory.mktemp("corpus")
    links = write_corpus(folder / "images")
    tried = {
        item.callspec.params["name"]
        for item in request.session.items
        if item.path == request.path and hasattr(item, "callspec")
    }
    yield folder, {name: links[name] for name in links if name in tried or not tried}
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def alone(corpus):
    """What `load_image` made of each kind, with its memory and its time."""
    folder, links = corpus
    undo_changes(folder / "images")
    images = str(folder / "images")
    return json.loads(
        run_child(READ_EACH, images, json.dumps(links), seconds=3 * HANGS)
    )


@pytest.fixture(scope="module")
def embedded(corpus, tiny_config: EmbedConfig) -> Embedded:
    """A catalog of one product of each kind, embedded in a process of its own."""
    folder, links = corpus
    undo_changes(folder / "images")
    with (folder / "catalog.csv").open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(("sample_id", "catalog_content", "image_link"))
        lines.writerows(
            (f"product {kind}", "Tea", link) for kind, link in links.items()
        )
    config = json.dumps(vars(tiny_config))
    memory = float(run_child(EMBED_ALL, str(folder), config, seconds=3 * HANGS))
    stage = folder / "run" / "embed"
    with (stage / "problems.csv").open(newline="", encoding="utf-8") as file:
        problems = list(csv.DictReader(file))
    assert {problem["field"] for problem in problems} == {"image"}
    reasons = {p["sample_id"].removeprefix("product "): p["reason"] for p in problems}
    assert len(reasons) == len(problems)
    return Embedded(
        rows={kind: row for row, kind in enumerate(links)},
        image=np.load(stage / "image.npy"),
        image_ok=np.load(stage / "image_ok.npy"),
        thumbnails=RaggedRows(stage / "thumbnails.npy"),
        reasons=reasons,
        memory=memory,
    )


def test_the_corpus_has_more_than_60_kinds() -> None:
    assert len(KINDS) > 60
    for name, kind in KINDS.items():
        assert (kind.pixels is None) == bool(kind.reason), name


@pytest.mark.one_in(ONE_IN)
@pytest.mark.parametrize("name", KINDS)
def test_bad_photo_gives_its_pixels_or_the_reason(name, alone, embedded, tally) -> None:
    kind, found, row = KINDS[name], alone[name], embedded.rows[name]
    assert found["seconds"] < MOST_SECONDS
    assert found["growth"] < MOST_GROWTH
    thumbnail = embedded.thumbnails[row].tobytes()
    if kind.pixels is None:
        assert found["pixels"] is None
        if found["reason"] != "not found":
            assert re.fullmatch(kind.reason, found["reason"])
        assert re.fullmatch(kind.reason, embedded.reasons[name])
        assert not embedded.image_ok[row]
        assert not embedded.image[row].any()
        assert thumbnail == b""
    else:
        assert found["reason"] == ""
        difference = np.abs(np.array(found["pixels"], int) - kind.pixels)
        assert difference.mean() <= kind.tolerance
        assert name not in embedded.reasons
        assert embedded.image_ok[row]
        assert embedded.image[row].any()
        difference = np.abs(decode_thumbnail(thumbnail).astype(int) - found["pixels"])
        assert difference.mean() < 8  # by way of JPEG
    tally("kinds of bad photos")


@pytest.mark.slow
def test_to_embed_every_bad_photo_takes_less_than_a_gibibyte(embedded) -> None:
    assert embedded.memory < MOST_MEMORY
    assert len(embedded.image_ok) == len(KINDS)


@pytest.mark.slow
def test_bad_photos_leave_the_features_of_their_neighbours_alone(embedded) -> None:
    same = [
        row
        for name, row in embedded.rows.items()
        if KINDS[name].pixels is PIXELS and not KINDS[name].tolerance
    ]
    assert len(same) > 30
    features = embedded.image[same].astype(np.float32)
    # Two steps of float16. A value that cancels to almost 0 has float32's rounding of
    # what it is the sum of, which is as large as the largest.
    np.testing.assert_allclose(
        features,
        features[:1].repeat(len(same), 0),
        rtol=2e-3,
        atol=1e-5 * np.abs(features).max(),
    )
