import base64
import json
import shutil
from importlib import metadata

import numpy as np
import pytest
from conftest import copy_run
from photo_bytes import saved
from service_standin import client_of, error_of

from embed.catalog.reader import read_catalog
from embed.chunks import NO_PHOTO_GIVEN, prepare_chunk
from embed.errors import CacheError, ConfigError, UnreadableImage
from embed.photos.decode import decode_photo, load_image
from embed.store.manifest import read_json
from stack.service.pricing import Pricer, Product

PHOTO = saved("JPEG")
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def pricers(finished_run, tmp_path_factory):
    """The finished run, served by one or the other predictor."""
    found = {}
    for chosen in ("network", "stacker"):
        run_dir = copy_run(finished_run, tmp_path_factory.mktemp(chosen) / "run")
        path = run_dir / "stack" / "manifest.json"
        path.write_text(json.dumps({**read_json(path), "chosen": chosen}))
        found[chosen] = Pricer(run_dir, n_threads=1)
    return found


@pytest.fixture(scope="module")
def real(pricers):
    with client_of(lambda: pricers["stacker"]) as client:
        yield client


def is_readable(path):
    try:
        load_image(path, size=8)
    except UnreadableImage:
        return False
    return True


@pytest.mark.parametrize("chosen", ["network", "stacker"])
def test_prices_are_those_of_the_predictor(pricers, sample_catalog, chosen):
    catalog = read_catalog(sample_catalog)
    images = sorted((sample_catalog.parent / "images").iterdir())
    photos = [path for path in images if is_readable(path)][:6]
    texts = list(catalog.text[:6])
    pricer = pricers[chosen]
    size = pricer.image_size
    chunk = prepare_chunk(texts, [load_image(path, size=size) for path in photos])
    expected = pricer.predictor.predict(chunk)
    with client_of(lambda: pricer) as client:
        asked = [
            {"text": text, "image": base64.b64encode(path.read_bytes()).decode()}
            for text, path in zip(texts, photos, strict=True)
        ]
        response = client.post("/prices", json={"products": asked})
        alone = [client.post("/price", json=one).json()["price"] for one in asked]
    found = response.json()["prices"]
    prices = [one["price"] for one in found]
    np.testing.assert_allclose(prices, expected.price, rtol=1e-3)
    np.testing.assert_allclose(alone, expected.price, rtol=0.02)
    assert {one["predictor"] for one in found} == {chosen}
    sure = pricer.predictor.confidence.within(expected, 20)
    np.testing.assert_allclose([one["within_20"] for one in found], sure, atol=0.05)
    assert [one["unlike"] for one in found] == expected.unlike.tolist()
    for number, level in enumerate((80, 90)):
        low, high = pricer.predictor.confidence.bounds(expected, level=level)
        intervals = [one["intervals"][number] for one in found]
        assert [one["level"] for one in intervals] == [level] * 6
        ends = [(one["price_low"], one["price_high"]) for one in intervals]
        np.testing.assert_allclose(ends, np.column_stack([low, high]), rtol=1e-3)


def test_a_form_is_priced_as_the_same_in_json(real):
    form = real.post(
        "/price",
        data={"text": "Green tea", "sample_id": "007"},
        files={"photo": ("tea.jpg", PHOTO, "image/jpeg")},
    )
    image = base64.b64encode(PHOTO).decode()
    sent = {"text": "Green tea", "image": image, "sample_id": "007"}
    assert form.status_code == 200
    assert form.json() == real.post("/price", json=sent).json()
    assert form.json()["sample_id"] == "007"
    assert form.json()["placeholders"] == []


def test_what_a_product_lacks_is_said_and_no_error(real):
    answer = real.post("/price", json={"text": " \n"}).json()
    assert answer["price"] > 0
    assert answer["placeholders"] == [
        {"field": "text", "reason": "none given"},
        {"field": "image", "reason": "none given"},
    ]
    answer = real.post("/price", json={"text": "?!", "image": None}).json()
    assert answer["placeholders"][0]["reason"] == "no letters or digits in it"


def test_an_explanation_comes_with_the_price_it_explains(real):
    sent = {"text": "Item Name: Green tea in bags\nValue: 12\nUnit: Ounce"}
    sent["image"] = base64.b64encode(PHOTO).decode()
    plain = real.post("/price", json=sent).json()
    answer = real.post("/price?explain=true", json=sent).json()
    why = answer.pop("explanation")
    assert plain.pop("explanation") is None
    assert answer["price"] == pytest.approx(plain["price"], rel=0.02)
    assert answer["placeholders"] == plain["placeholders"] == []
    factors = np.prod([part["factor"] for part in why["parts"]])
    assert factors == pytest.approx(answer["price"] + 1, rel=1e-5)
    assert why["parts"][0]["name"] == "network"
    assert len(why["parts"]) > 1
    assert {"Green", "tea"} <= {word["text"] for word in why["words"]}
    assert why["without_photo_percent"] is not None
    assert len(why["similar"]) == 5
    assert all(one["price"] > 0 for one in why["similar"])


def test_where_nothing_can_be_explained_prices_are_given_all_the_same(
    pricers, monkeypatch, caplog
):
    def explain(*arguments, **options):
        raise CacheError("/secret/fused.npy: is not there")

    monkeypatch.setattr("stack.explain.explanation.explain_product", explain)
    with client_of(lambda: pricers["network"]) as client:
        response = client.post("/price?explain=true", json={"text": "tea"})
        assert error_of(response, 503)["where"] == "query.explain"
        assert "fused.npy" not in response.text
        assert "/secret/fused.npy" in caplog.text
        assert client.post("/price", json={"text": "tea"}).status_code == 200


def test_health_says_what_serves(real, pricers):
    pricer = pricers["stacker"]
    assert real.get("/health").json() == {
        "status": "ready",
        "run": pricer.run_key,
        "chosen": "stacker",
        "smape": pricer.smape,
        "version": metadata.version("pricestack"),
        "currency": None,
        "table": [],
    }


def test_a_run_whose_stage_is_missing_is_refused_at_once(finished_run, tmp_path):
    run_dir = copy_run(finished_run, tmp_path / "run")
    shutil.rmtree(run_dir / "stack")
    with pytest.raises(CacheError, match="has not finished"):
        Pricer(run_dir, n_threads=1)


def test_one_fold_alone_answers_with_its_own_price(pricers):
    run_dir = pricers["network"].predictor.run.run_dir
    product = Product(text="green tea, 20 bags", photo=NO_PHOTO_GIVEN)
    found = [
        Pricer(run_dir, n_threads=1, only_fold=fold).price([product])[0].price
        for fold in range(3)
    ]
    together = pricers["network"].price([product])[0].price
    assert len(set(found)) == 3
    # Networks are averaged in log space.
    assert np.log1p(found).mean() == pytest.approx(np.log1p(together), abs=1e-4)
    with pytest.raises(ConfigError, match="must be 1 to 3, got 4"):
        Pricer(run_dir, n_threads=1, only_fold=3)


def test_pixels_are_those_that_the_run_reads(pricers):
    pricer = pricers["network"]
    pixels = decode_photo(PHOTO, size=pricer.image_size)
    with_photo = Product(text="Green tea", photo=pixels)
    without = Product(text="Green tea", photo=NO_PHOTO_GIVEN)
    first, second = pricer.price([with_photo, without])
    assert first.price != second.price
