import csv
import dataclasses
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from click.testing import CliRunner
from conftest import LEARNING, TINY_STACK, choose, copy_run

from embed.catalog.own_copy import read_run_catalog
from embed.catalog.reader import CatalogColumns, read_catalog
from embed.chunks import prepared_chunks
from embed.config import EmbedConfig
from embed.errors import CacheError, ConfigError, InputError
from embed.extract import extract
from embed.photos.decode import encode_thumbnail, thumbnail_sha256
from embed.records import require_embedded
from embed.store.manifest import read_json
from finetune.config import FinetuneConfig
from finetune.out_of_fold import finetune
from stack.blocks.fitted import features_of, load_blocks
from stack.blocks.inputs import BlockInputs
from stack.blocks.registry import PRICE_BLOCKS
from stack.config import StackConfig
from stack.export import check
from stack.export.card import model_card
from stack.export.command import export_command
from stack.export.export import CARD_NAME, export_run
from stack.export.predict_file import price_catalog
from stack.export.price_blocks import write_price_blocks
from stack.export.target import whole_folder
from stack.fit import fit_stack
from stack.price.catalog import predict_prices
from stack.price.flags import NO_PHOTO, NO_TEXT
from stack.price.onnx_model import Model, load_price_blocks
from stack.price.predictor import Predictor
from stack.run import open_run

SHARED = Path(__file__).resolve().parents[2] / "shared"
# Runs predict.py as a machine without this project and PyTorch would.
ISOLATED = """
import runpy, sys
refused = set(sys.argv.pop(1).split(","))
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in refused:
            raise ImportError(name + " is not to be imported")
sys.meta_path.insert(0, Refuse())
del sys.argv[0]
sys.path[0] = sys.argv[0].rpartition("/")[0]
runpy.run_path(sys.argv[0], run_name="__main__")
for name in ("embed", "finetune", "stack"):
    assert sys.modules[name].__file__.startswith(sys.path[0]), name
assert not refused & {name.partition(".")[0] for name in sys.modules}
"""
REFUSED = (
    "torch,torchvision,transformers,pandas,sklearn,pyarrow,safetensors,onnx,click,tqdm,"
    "filelock,pydantic"
)
REFUSED_WITHOUT_TREES = REFUSED + ",lightgbm,scipy"
# Blocks that are fitted on prices need scikit-learn, which looks for pandas, and check
# their records by pydantic.
REFUSED_WITH_BLOCKS = ",".join(
    name for name in REFUSED.split(",") if name not in ("sklearn", "pandas", "pydantic")
)


def refused_packages(model_dir):
    """Return the packages that an export must do without."""
    if (model_dir / "blocks").exists():
        return REFUSED_WITH_BLOCKS
    return REFUSED if (model_dir / "boosters").exists() else REFUSED_WITHOUT_TREES


def run_script(model_dir, *arguments, refused=None):
    script = str(model_dir / "predict.py")
    refused = refused or refused_packages(model_dir)
    return subprocess.run(
        [sys.executable, "-c", ISOLATED, refused, script, *map(str, arguments)],
        cwd=model_dir.parent,
        capture_output=True,
        text=True,
        check=False,
    )


def prices_by_script(model_dir, catalog_path, images_dir, *more):
    with TemporaryDirectory() as folder:
        out = Path(folder, "prices.csv")
        given = ("--catalog", catalog_path, "--images", images_dir, "--out", out)
        done = run_script(model_dir, *given, *more)
        assert done.returncode == 0, done.stderr
        with out.open(newline="") as file:
            return list(csv.DictReader(file))


def predicted_by_run(run_dir, catalog, images_dir):
    predictor = Predictor(run_dir, n_threads=1)
    inputs = predictor.inputs(catalog, images_dir)
    chunks = prepared_chunks(inputs, predictor.config, 0)
    return np.concatenate([predictor.price(chunk) for chunk in chunks])


def learned_run(embedded_run, to, **settings):
    """A run whose networks, quick to train, give products different prices."""
    run_dir = copy_run(embedded_run, to)
    finetune(run_dir, config=dataclasses.replace(LEARNING, **settings))
    fit_stack(run_dir, config=dataclasses.replace(TINY_STACK, max_rounds=30))
    return run_dir


@pytest.fixture(scope="module")
def run_of(embedded_run, shared):
    """Copies of a run in which one or the other predictor was chosen."""
    blocks = ("network", "start", "text", *PRICE_BLOCKS)
    with_blocks = dataclasses.replace(TINY_STACK, max_rounds=30, blocks=blocks)

    def make(folder):
        run_dir = choose(learned_run(embedded_run, folder / "stacker"), "stacker")
        fit_stack(copy_run(run_dir, folder / "blocks"), config=with_blocks)
        choose(folder / "blocks", "stacker")
        # Its boosters see prices, too, but do not serve.
        choose(copy_run(folder / "blocks", folder / "network"), "network")

    folder = shared("learned", make)
    return {chosen: folder / chosen for chosen in ("network", "stacker", "blocks")}


@pytest.fixture(scope="module")
def model_of(run_of, shared):
    def export(folder):
        for chosen, run_dir in run_of.items():
            export_run(run_dir, folder / chosen, check=False)

    folder = shared("models", export)
    return {chosen: folder / chosen for chosen in run_of}


@pytest.fixture
def export(model_of, tmp_path):
    """A copy of the smaller export that may be changed."""
    return shutil.copytree(model_of["network"], tmp_path / "model")


@pytest.fixture
def quick_writing(model_of, monkeypatch):
    """Let a run be exported by copying what was exported before."""

    def copy(_, folder):
        shutil.copytree(model_of["network"], folder, dirs_exist_ok=True)

    monkeypatch.setattr("stack.export.export.write_export", copy)


def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    monkeypatch.setattr(
        "importlib.util.find_spec",
        lambda name: None if name == "onnxruntime" else object(),
    )
    result = CliRunner().invoke(
        export_command, ["--run", str(tmp_path), "--out", str(tmp_path / "model")]
    )
    assert result.exit_code == 2
    assert result.output.count("\n") == 1
    assert "needs onnxruntime" in result.output
    assert "`pip install onnxruntime`" in result.output
    assert "extra `export`" in result.output


@pytest.mark.parametrize("chosen", ["network", "stacker", "blocks"])
def test_predict_py_prices_as_the_run_does_without_its_packages(
    run_of, model_of, sample_catalog, chosen
):
    images_dir = sample_catalog.parent / "images"
    rows = prices_by_script(
        model_of[chosen],
        sample_catalog,
        images_dir,
        "--intervals",
        "90",
        "--confidence",
    )
    catalog = read_catalog(sample_catalog)
    assert [row["sample_id"] for row in rows] == catalog.sample_id.tolist()
    found = np.array([float(row["price"]) for row in rows])
    expected = predicted_by_run(run_of[chosen], catalog, images_dir)
    assert np.log1p(expected).std() > 0.1
    np.testing.assert_allclose(np.log1p(found), np.log1p(expected), rtol=0, atol=1e-3)
    substituted = read_json(run_of[chosen] / "embed" / "manifest.json")["substituted"]
    assert min(substituted.values()) > 0  # some had no text, some no photo
    judged = predict_prices(
        run_of[chosen], catalog, images_dir=images_dir, level=90, n_threads=1
    )
    for column in ("price_low", "price_high"):
        end = np.array([float(row[column]) for row in rows])
        expected_end = getattr(judged, column)
        np.testing.assert_allclose(end, expected_end, rtol=2e-3, atol=1e-3)
    for column in ("within_10", "within_20", "unlike"):
        sure = [float(row[column]) for row in rows]
        np.testing.assert_allclose(sure, getattr(judged, column), atol=0.03)


def test_predict_py_flags_what_pricestack_predict_flags(
    run_of, model_of, sample_catalog
):
    images_dir = sample_catalog.parent / "images"
    rows = prices_by_script(model_of["network"], sample_catalog, images_dir, "--flags")
    own = predict_prices(
        run_of["network"], read_catalog(sample_catalog), images_dir=images_dir
    )
    flags = zip(own.doubts, own.lacks, strict=True)
    assert [row["flags"] for row in rows] == ["; ".join((*d, *f)) for d, f in flags]
    assert own.n_lacking(NO_PHOTO)
    assert own.n_lacking(NO_TEXT)


def test_the_boosters_of_the_stacker_have_a_say_in_its_export(model_of, sample_catalog):
    catalog = read_catalog(sample_catalog)
    found = [
        Model(model_of[chosen]).log_price(catalog.text[3], None)
        for chosen in ("network", "stacker", "blocks")
    ]
    assert abs(np.diff(found)).min() > 1e-3


def test_an_export_prices_a_stand_in_as_no_photo(model_of):
    photo = np.full((32, 32, 3), 90, dtype=np.uint8)
    model = Model(model_of["network"])
    assert model.settings["stand_ins"] == []
    with_photo, without = (model.log_price("tea", of) for of in (photo, None))
    assert with_photo != without
    model.settings["stand_ins"] = [thumbnail_sha256(encode_thumbnail(photo))]
    assert model.log_price("tea", photo) == without


def test_only_an_export_that_looks_at_prices_holds_them_and_says_so(model_of):
    for chosen, model_dir in model_of.items():
        has_prices = chosen == "blocks"
        for name in ("known", "blocks"):
            assert (model_dir / name).exists() == has_prices, (chosen, name)
        card = (model_dir / CARD_NAME).read_text()
        assert ("contain prices" in card) == has_prices
        packages = (model_dir / "requirements.txt").read_text().split()
        assert ("scikit-learn" in packages) == has_prices
        assert ("pydantic" in packages) == has_prices
        assert ("lightgbm" in packages) == (chosen != "network")


def test_trees_without_their_package_are_one_line(model_of, sample_catalog, tmp_path):
    given = ("--catalog", sample_catalog, "--out", tmp_path / "prices.csv")
    done = run_script(model_of["stacker"], *given, refused=REFUSED_WITHOUT_TREES)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("Run `pip install lightgbm`")
    assert "Traceback" not in done.stderr


def test_a_block_that_looks_at_no_product_is_exported_without_prices(run_of, tmp_path):
    run, names = open_run(run_of["blocks"]), ["lexical"]
    (tmp_path / "embed").mkdir()
    write_price_blocks(run, names, tmp_path)
    assert not (tmp_path / "known").exists()
    settings = {"price_blocks": names, "folds": ["fold-0", "fold-1", "fold-2"]}
    exported = load_price_blocks(tmp_path, settings)["lexical"]
    features = features_of(run)
    texts = ["green tea, 20 bags"] * len(features.image_ok)
    products = BlockInputs(texts=texts, features=features)
    expected = load_blocks(names, run, [0, 1, 2])["lexical"].predict(products)
    np.testing.assert_array_equal(exported.predict(products), expected)


@pytest.mark.slow
def test_a_network_on_frozen_photos_is_exported_with_the_frozen_encoder(
    embedded_run, sample_catalog, tmp_path
):
    run_dir = learned_run(
        embedded_run, tmp_path / "run", freeze_image=True, smooth_l1_epochs=2
    )
    catalog, images_dir = read_catalog(sample_catalog), sample_catalog.parent / "images"
    for chosen in ("network", "stacker"):
        export_run(choose(run_dir, chosen), tmp_path / chosen, check=False)
        assert (tmp_path / chosen / "frozen" / "image.onnx").is_file()
        assert not (tmp_path / chosen / "fold-0" / "image.onnx").exists()
        expected = np.log1p(predicted_by_run(run_dir, catalog, images_dir))
        rows = price_catalog(Model(tmp_path / chosen), sample_catalog, images_dir)
        found = np.log1p([float(price) for _, price in rows])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("inputs", ["text", "image"])
def test_networks_of_one_input_alone_are_exported_as_they_price(
    embedded_run, sample_catalog, tmp_path, inputs
):
    run_dir = learned_run(embedded_run, tmp_path / "run", inputs=inputs)
    catalog, images_dir = read_catalog(sample_catalog), sample_catalog.parent / "images"
    for chosen in ("network", "stacker"):
        export_run(choose(run_dir, chosen), tmp_path / chosen, check=False)
        expected = np.log1p(predicted_by_run(run_dir, catalog, images_dir))
        rows = price_catalog(Model(tmp_path / chosen), sample_catalog, images_dir)
        found = np.log1p([float(price) for _, price in rows])
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    alone = {"text": "text alone", "image": "photo alone"}[inputs]
    assert alone in (tmp_path / "network" / "MODEL_CARD.md").read_text()


def test_the_command_exports_and_checks(run_of, tmp_path):
    arguments = ["--run", str(run_of["network"]), "--out", str(tmp_path / "model")]
    result = CliRunner().invoke(export_command, arguments)
    assert result.exit_code == 0, result.output
    difference = float(result.stdout.partition("at most ")[2].partition(".\n")[0])
    assert difference <= 1e-3
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_a_difference_is_refused_and_leaves_the_earlier_export(
    run_of, export, quick_writing, monkeypatch
):
    before = (export / "manifest.json").read_bytes()
    honest = check.exported_log_prices
    monkeypatch.setattr(
        check, "exported_log_prices", lambda *given: honest(*given) + 0.01
    )
    with pytest.raises(InputError, match=r"differs from the run's by up to 0\.01"):
        export_run(run_of["network"], export)
    assert (export / "manifest.json").read_bytes() == before
    assert [path.name for path in export.parent.iterdir()] == ["model"]


def test_an_earlier_export_is_replaced_whole(run_of, export, quick_writing):
    (export / "embed" / "__pycache__").mkdir()
    (export / "embed" / "__pycache__" / "text.pyc").write_bytes(b"of the earlier one")
    (export / "predict.py").write_text("damaged")
    export_run(run_of["network"], export, check=False)
    assert not (export / "embed" / "__pycache__").exists()
    assert "def main" in (export / "predict.py").read_text()


@pytest.mark.parametrize("name", ["prices.csv", "embed/left over.txt"])
def test_a_file_of_the_user_in_an_earlier_export_is_named_and_kept(
    run_of, export, quick_writing, name
):
    (export / name).write_text("mine")
    with pytest.raises(
        ConfigError, match=rf"'{name}' is there too\. Move it elsewhere"
    ):
        export_run(run_of["network"], export, check=False)
    assert (export / name).read_text() == "mine"
    assert [path.name for path in export.parent.iterdir()] == ["model"]


def test_a_link_in_an_earlier_export_is_named_and_kept(run_of, export, tmp_path):
    (export / "photos").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=r"'photos' is there too"):
        export_run(run_of["network"], export, check=False)
    assert (export / "photos").is_symlink()


def test_a_file_put_into_an_earlier_export_meanwhile_is_kept(export):
    def write():
        with whole_folder(export) as folder:
            (folder / "predict.py").write_text("new")
            (export / "prices.csv").write_text("mine")

    with pytest.raises(ConfigError, match=r"'prices\.csv' is there too"):
        write()
    assert (export / "prices.csv").read_text() == "mine"
    assert (export / "requirements.txt").is_file()
    assert [path.name for path in export.parent.iterdir()] == ["model"]


def test_a_folder_with_other_files_is_refused_and_kept(run_of, tmp_path):
    (tmp_path / "manifest.json").write_text('{"kind": "something else"}')
    with pytest.raises(ConfigError, match=r"must be new, empty or an earlier export"):
        export_run(run_of["network"], tmp_path, check=False)
    assert [path.name for path in tmp_path.iterdir()] == ["manifest.json"]


def test_an_unfinished_run_is_refused(embedded_run, tmp_path):
    with pytest.raises(CacheError, match=r"finetune: this stage has not finished"):
        export_run(embedded_run, tmp_path / "model")
    assert not any(tmp_path.iterdir())


def test_a_damaged_network_of_the_run_is_named(run_of, tmp_path):
    run_dir = copy_run(run_of["network"], tmp_path / "run")
    path = run_dir / "finetune" / "fold-1" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CacheError, match=r"fold-1.model\.safetensors"):
        export_run(run_dir, tmp_path / "model")
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("name", ["fold-1/head.onnx", "manifest.json"])
def test_a_damaged_file_of_an_export_is_named_in_one_line(export, tmp_path, name):
    content = (export / name).read_bytes()
    (export / name).write_bytes(content[: len(content) // 2])
    (tmp_path / "new.csv").write_text("sample_id,catalog_content\n1,tea\n")
    done = run_script(
        export, "--catalog", tmp_path / "new.csv", "--out", tmp_path / "prices.csv"
    )
    assert done.returncode == 2
    last = done.stderr.strip().split("\n")[-1]
    assert name in last
    assert "export the model again" in last
    assert "Traceback" not in done.stderr


def test_a_file_that_an_export_lacks_is_named(export):
    (export / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"tokenizer\.json: is missing"):
        Model(export)


def test_the_manifest_has_the_checksum_of_every_other_file(model_of):
    folder = model_of["stacker"]
    found = {
        path.relative_to(folder).as_posix(): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert read_json(folder / "manifest.json")["files"] == found


def test_no_path_of_this_machine_is_in_an_export(run_of, model_of):
    embed = read_json(run_of["stacker"] / "embed" / "manifest.json")["inputs"]
    places = [embed["catalog_path"], embed["text_weights"], run_of["stacker"]]
    places = [str(Path(place).parent).encode() for place in places]
    places.append(str(Path(__file__).parents[1]).encode())
    for path in model_of["stacker"].rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert not any(place in content for place in places), path


def test_the_model_card_has_the_scores_and_the_verdict_of_the_report(run_of, model_of):
    card = (model_of["network"] / CARD_NAME).read_text()
    report = read_json(run_of["network"] / "stack" / "report.json")
    assert report["verdict"]["sentence"] in card
    for row in report["predictors"]:
        assert (
            f"| {row['label']} | {row['smape']:.2f} | {row['smape_se']:.2f} |" in card
        )
    for found in report["intervals"]:
        assert f"| {found['level']} % | {100 * found['coverage']:.1f} % |" in card
    assert "| Products in all | 40 |" in card
    assert "random numbers" in card


def test_the_model_card_names_the_licence_of_each_encoder(run_of):
    stages = ("embed", "finetune", "stack")
    records = {
        stage: read_json(run_of["network"] / stage / "manifest.json")
        for stage in stages
    }
    records["embed"]["inputs"].update(
        text_weights="somewhere", image_weights="somewhere", image_weights_sha256="0"
    )
    report = read_json(run_of["network"] / "stack" / "report.json")
    licences = []
    for names in (
        ("sentence-transformers/all-MiniLM-L6-v2", "efficientnet_b0"),
        ("files/all-MiniLM-L6-v2-fp16", "files/efficientnet_b0-7f58.pth"),
        ("files/mine", "files/mine.pth"),
    ):
        texts = dict(zip(("text_encoder", "image_encoder"), names, strict=True))
        records["embed"]["config"].update(texts)
        card = model_card(**records, report=report, n_photos=1, has_prices=False)
        rows = card.partition("| Weights begun from |")[2].split("\n")[2:4]
        licences += [row.split(" | ")[1] for row in rows]
    named, bsd = "if the file matches its name: ", "BSD-3-Clause (torchvision's"
    assert licences[0] == "Apache-2.0 |"
    assert licences[1].startswith(bsd)
    assert licences[2] == f"{named}Apache-2.0 |"
    assert licences[3].startswith(named + bsd)
    assert all(found.startswith("not known here") for found in licences[4:])


@pytest.mark.parametrize("name", ["MODEL_CARD.md", "predict.py"])
def test_the_example_of_an_export_writes_beside_its_folder(model_of, name):
    text = (model_of["network"] / name).read_text()
    assert "python model/predict.py --catalog new.csv" in text
    assert "--out prices.csv" in text


def test_an_export_has_the_licence_of_its_code(model_of):
    expected = (Path(__file__).parents[1] / "LICENSE").read_text()
    assert (model_of["network"] / "LICENSE").read_text() == expected


@pytest.mark.real
@pytest.mark.skipif(not SHARED.is_dir(), reason="no real catalogs and weights")
def test_200_real_products_are_priced_as_by_their_run(tmp_path):
    source = SHARED / "data" / "flipkart1050"
    with (source / "catalog.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))[::5][:200]
    catalog_path = tmp_path / "catalog.csv"
    with catalog_path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    columns = CatalogColumns(text=("title", "description"))
    weights = SHARED / "weights"
    extract(
        read_catalog(catalog_path, columns=columns),
        tmp_path / "run",
        images_dir=source / "images",
        config=EmbedConfig(
            text_encoder=str(weights / "all-MiniLM-L6-v2-fp16"),
            image_encoder=str(weights / "efficientnet_b0_reconstructed.safetensors"),
            image_size=64,
            max_tokens=48,
            precision="fp32",
            backend="eager",
        ),
    )
    training = FinetuneConfig(
        n_folds=2,
        smooth_l1_epochs=1,
        smape_epochs=0,
        image_size=48,
        max_tokens=24,
        batch_size=8,
        fusion_learning_rate=5e-3,
        ema_decay=0.0,
        freeze_layers=5,
        precision="fp32",
    )
    finetune(tmp_path / "run", config=training)
    fit_stack(tmp_path / "run", config=StackConfig(max_rounds=40, n_bootstrap=200))
    run_dir = choose(tmp_path / "run", "stacker")
    export_run(run_dir, tmp_path / "model", check=False)
    predicted = predicted_by_run(
        run_dir,
        read_run_catalog(run_dir, require_embedded(run_dir)),
        source / "images",
    )
    rows = prices_by_script(tmp_path / "model", catalog_path, source / "images")
    found = np.log1p([float(row["price"]) for row in rows])
    assert len(found) == 200
    assert np.log1p(predicted).std() > 0.1
    np.testing.assert_allclose(found, np.log1p(predicted), rtol=0, atol=1e-3)
