import contextlib
import copy
import io
import json
import logging
import pickle
import subprocess
import sys
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import DataConversionWarning, NotFittedError
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from embed.catalog.reader import read_catalog
from embed.config import EmbedConfig
from embed.errors import CacheError, ConfigError, InputError
from embed.store.lock import LockedError, run_lock
from finetune.config import FinetuneConfig
from finetune.score import smape
from stack import PriceRegressor
from stack.config import StackConfig
from stack.explain.product import read_product
from stack.notebook.problems import PlaceholderWarning
from stack.notebook.regressor import PriceRegressor as FromModule
from stack.notebook.settings import settings_of
from stack.notebook.verbosity import shown as showing
from stack.price.catalog import predict_prices
from stack.price.predictor import Predictor
from stack.run import open_run
from stack.tell.report import format_report

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def settings(tiny_encoder):
    """Quick to fit: 2 networks of one epoch, boosters of few trees."""
    return {
        "text_encoder": str(tiny_encoder),
        "image_encoder": "no-such-encoder",
        "random_weights": True,
        "n_folds": 2,
        "smooth_l1_epochs": 1,
        "smape_epochs": 0,
        "batch_size": 8,
        "max_tokens": 24,
        "image_size": 32,
        "precision": "fp32",
        "n_threads": 1,
        "embed_config": EmbedConfig(backend="eager"),
        "stack_config": StackConfig(
            max_rounds=3,
            min_data_in_leaf=3,
            n_bootstrap=20,
            n_threads=1,
            ablation=False,
        ),
    }


@pytest.fixture(scope="module")
def products(small_catalog):
    """The sample as a notebook has it: paths of photos that are there, odd labels."""
    table = pd.read_csv(small_catalog, dtype={"sample_id": str})
    images = small_catalog.parent / "images"
    names = table.pop("image_link").map(lambda link: Path(str(link)).name)
    readable = {path.name for path in images.iterdir() if is_photo(path)}
    table["image_path"] = [
        str(images / name) if name in readable else None for name in names
    ]
    table.index = [f"p{number}" for number in range(len(table), 0, -1)]
    return table


def is_photo(path):
    from PIL import Image

    try:
        with Image.open(path) as photo:
            photo.load()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def make(settings):
    """Make a quick regressor; keywords change it."""
    return lambda **changes: PriceRegressor(**(settings | changes))


@pytest.fixture(scope="module")
def fitted(make, products, tmp_path_factory):
    """A regressor that was fitted in a folder of its own. Not to be fitted again."""
    run_dir = tmp_path_factory.mktemp("regressor") / "run"
    return make(run_dir=run_dir).fit(products, products["price"])


def test_prices_are_in_the_currency_of_the_target(make, fitted, products):
    """In thousandths of the currency, all prices are a thousandth."""
    scaled = make().fit(products, products["price"] / 1000)
    assert scaled.smape_ == pytest.approx(fitted.smape_, abs=0.01)
    ends = zip(
        (scaled.oof_price_, *scaled.predict_interval(products)),
        (fitted.oof_price_, *fitted.predict_interval(products)),
        strict=True,
    )
    for found, expected in ends:
        np.testing.assert_allclose(found, expected / 1000, rtol=1e-3)
    np.testing.assert_array_equal(
        scaled.predict(products), scaled.predict_interval(products)[0]
    )


def test_the_package_brings_the_regressor_only_when_it_is_asked_for():
    code = "import sys, stack; print({'torch', 'lightgbm', 'sklearn'} & {*sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "set()"
    assert PriceRegressor is FromModule


def test_the_package_has_no_other_names():
    import stack

    with pytest.raises(AttributeError, match="no attribute 'PriceRegresor'"):
        _ = stack.PriceRegresor


def test_prices_are_those_of_the_commands(fitted, products):
    run_dir = fitted.run_dir_
    catalog_path = run_dir / "inputs" / "catalog.csv"
    catalog = read_catalog(catalog_path)
    np.testing.assert_array_equal(catalog.price, products["price"])
    photos = predict_prices(run_dir, catalog, images_dir=None, n_threads=1)
    no_photos = products.assign(image_path=None)
    np.testing.assert_allclose(fitted.predict(no_photos), photos.price, rtol=1e-6)


def test_a_photo_counts(fitted, products):
    has_photo = products["image_path"].notna().to_numpy()
    without = fitted.predict(products.assign(image_path=None))
    price = fitted.predict(products)
    assert (price[has_photo] != without[has_photo]).all()
    np.testing.assert_allclose(price[~has_photo], without[~has_photo], rtol=0.02)


def test_the_fit_is_that_of_the_three_stages(fitted, products):
    run = open_run(fitted.run_dir_)
    np.testing.assert_array_equal(run.array("finetune/price"), products["price"])
    assert run.array("embed/sample_id").tolist() == products.index.tolist()
    assert run.array("embed/image_ok").tolist() == products.image_path.notna().tolist()
    report = json.loads((fitted.run_dir_ / "stack" / "report.json").read_text())
    assert fitted.report_ == report
    assert f"{fitted.smape_:.2f}" in format_report(fitted.report_)
    assert smape(products["price"].to_numpy(), fitted.oof_price_) == pytest.approx(
        fitted.smape_
    )


def test_the_order_of_rows_is_kept(fitted, products):
    order = np.random.default_rng(0).permutation(len(products))
    shuffled = fitted.predict(products.iloc[order])
    np.testing.assert_allclose(shuffled, fitted.predict(products)[order], rtol=0.02)


def test_prices_lie_in_their_intervals(fitted, products):
    price, low, high = fitted.predict_interval(products)
    np.testing.assert_array_equal(price, fitted.predict(products))
    assert (low <= price).all()
    assert (price <= high).all()
    _, low_80, high_80 = fitted.predict_interval(products, level=80)
    assert (low <= low_80).all()
    assert (high_80 <= high).all()
    _, lows, highs = fitted.predict_interval(products, level=(80, 90))
    np.testing.assert_array_equal(lows, np.column_stack([low_80, low]))
    np.testing.assert_array_equal(highs, np.column_stack([high_80, high]))
    with pytest.raises(ConfigError, match="level must be 50 to 99"):
        fitted.predict_interval(products, level=100)


def test_confidence_is_a_frame_with_the_index_of_the_products(fitted, products):
    sure = fitted.confidence(products)
    assert list(sure.columns) == ["within_10", "within_20", "unlike"]
    assert sure.index.equals(products.index)
    assert (sure["within_10"] <= sure["within_20"]).all()
    assert sure["unlike"].dtype == bool


def test_score_is_r_squared(fitted, products):
    from sklearn.metrics import r2_score

    expected = r2_score(products["price"], fitted.predict(products))
    assert fitted.score(products, products["price"]) == pytest.approx(expected)


def test_the_features_are_the_named_columns_in_order(fitted):
    assert fitted.feature_names_in_.tolist() == ["catalog_content", "image_path"]
    assert fitted.n_features_in_ == 2


def test_settings_reach_their_stages(fitted, settings):
    run = open_run(fitted.run_dir_)
    stack = json.loads((fitted.run_dir_ / "stack" / "manifest.json").read_text())
    for stage in (run.embed.as_json(), run.finetune.as_json(), stack):
        found = stage["config"]
        given = {name: found[name] for name in found if name in settings}
        assert given == {name: settings[name] for name in given}
    assert stack["config"]["max_rounds"] == 3


def test_flat_settings_go_before_those_of_a_config(make):
    config = FinetuneConfig(n_folds=7, smape_epochs=4, seed=9)
    regressor = make(n_folds=None, smape_epochs=1, finetune_config=config)
    found = settings_of(regressor.get_params())
    assert found.finetune.n_folds == 7
    assert found.finetune.smape_epochs == 1
    assert found.finetune.seed == found.stack.seed == found.embed.seed == 0


def test_numpy_numbers_of_a_search_grid_become_plain_ones(make):
    regressor = make(n_folds=np.int64(3), freeze_image=np.bool_(True))
    found = settings_of(regressor.get_params())
    assert type(found.finetune.n_folds) is int
    assert found.finetune.freeze_image is True
    json.dumps(vars(found.finetune))


def test_seeds_come_from_the_random_state(make):
    def seeds(random_state):
        found = settings_of(make(random_state=random_state).get_params())
        return {found.embed.seed, found.finetune.seed, found.stack.seed}

    assert seeds(5) == {5}
    assert seeds(np.random.RandomState(1)) == seeds(np.random.RandomState(1))
    assert seeds(None) != seeds(None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_folds": 1}, "must be at least 2"),
        ({"n_folds": "5"}, "n_folds must be of type int, got '5'"),
        ({"n_folds": True}, "n_folds must be of type int, got True"),
        ({"freeze_image": 1}, "freeze_image must be of type bool, got 1"),
        ({"text_encoder": 3}, "text_encoder must be of type str, got 3"),
        ({"precision": "fp8"}, "precision must be one of auto, fp32, bf16"),
        ({"n_threads": 0}, "--threads must be at least 1, got 0"),
        ({"random_state": "no"}, "seed must be of type int"),
        ({"text_columns": ()}, "text_columns must name at least one column"),
        ({"text_columns": None}, "text_columns must name at least one column"),
        ({"stack_config": FinetuneConfig()}, "stack_config must be a StackConfig"),
        ({"images_dir": "no/such"}, "images_dir 'no/such': must be an existing folder"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_before_the_work(
    make, products, changes, message
):
    with pytest.raises(ConfigError, match=message) as caught:
        make(**changes).fit(products, products["price"])
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_encoders_that_are_nowhere_say_what_was_tried(make, products):
    with pytest.raises(InputError, match=r"no-such.*Tried.*Ways out"):
        make(text_encoder="./no-such").fit(products, products["price"])


def dropped(name):
    return lambda products: products.drop(columns=name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dropped("catalog_content"), r"no column 'catalog_content'; columns present:"),
        (dropped("image_path"), r"no column 'image_path'.*None: no photos"),
        (lambda X: X.iloc[:, :0], r"0 feature\(s\)"),
        (lambda X: X.iloc[:0], "n_samples=0"),
        (pd.DataFrame.to_numpy, r"must be a pandas DataFrame.*got numpy\.ndarray"),
        (lambda X: X.to_numpy().tolist(), r"must be a pandas DataFrame.*got .*list"),
        (lambda X: X["catalog_content"], r"must be a pandas DataFrame.*Series"),
        (lambda X: pd.concat([X, X], axis=1), r"'catalog_content' once.*2 times"),
        (
            lambda X: X.assign(catalog_content=[["tea"]] * len(X)),
            r"must hold text, numbers or None.*row 0, index 'p24' is \['tea'\]",
        ),
        (
            lambda X: X.assign(image_path=3),
            r"must hold paths of photos or None.*row 0.*is 3",
        ),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(
    fitted, make, products, change, message
):
    X = change(products)
    for call in (lambda: make().fit(X, products["price"]), lambda: fitted.predict(X)):
        with pytest.raises(InputError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda y: y.where(y.index != "p23"), r"1 of 24 .*row 1, index 'p23': .*nan"),
        (lambda y: -y, r"24 of 24 .*row 0.*; .*row 4"),
        (lambda y: y * np.inf, "finite numbers above 0"),
        (lambda y: y * 0, "finite numbers above 0"),
        (lambda y: y.astype(str), r"finite numbers above 0.*to_numeric"),
        (lambda y: y.astype(object).where(y.index != "p24", "?"), r"row 0.*: '\?'"),
        (lambda y: y > 3, "got bool"),
        (lambda y: pd.to_datetime(y), "got datetime64"),
        (lambda y: y + 1j, "Complex data not supported"),
        (lambda y: y[:-1], "got 23 for 24 rows"),
        (lambda y: None, "requires y to be passed"),
    ],
)
def test_prices_that_are_none_are_refused_in_one_line(make, products, change, message):
    with pytest.raises(InputError, match=message) as caught:
        make().fit(products, change(products["price"]))
    assert "\n" not in str(caught.value)


def test_a_column_of_prices_is_taken_with_scikit_learn_s_warning(
    make, products, monkeypatch
):
    seen = []

    def stop(folder, found, price, settings):
        seen.append(price)
        raise CacheError("enough")

    monkeypatch.setattr("stack.notebook.regressor.run_stages", stop)
    with pytest.warns(DataConversionWarning), pytest.raises(CacheError):
        make().fit(products, products[["price"]])
    np.testing.assert_array_equal(seen[0], products["price"])


def test_too_few_products_for_the_folds_are_refused(make, products):
    with pytest.raises(ConfigError, match=r"n_folds=2 and n_samples=4"):
        make().fit(products[:4], products["price"][:4])
    with pytest.raises(ConfigError, match=r"n_folds=30 and n_samples=24"):
        make(n_folds=30).fit(products, products["price"])


def test_as_few_products_as_are_allowed_can_be_fitted(make, products):
    few = make(image_column=None).fit(products[:6], products["price"][:6])
    assert np.isfinite(few.predict(products)).all()


def test_nothing_is_priced_before_a_fit(make, products):
    for method in ("predict", "predict_interval"):
        with pytest.raises(NotFittedError):
            getattr(make(), method)(products)
    with pytest.raises(NotFittedError):
        _ = make().run_dir_


def test_photos_that_are_not_there_are_counted_and_named(
    fitted, make, products, tmp_path
):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"no photo")
    table = products.assign(image_path=None)
    table.loc["p23", "image_path"] = str(tmp_path / "gone.jpg")
    table.loc["p22", "image_path"] = "https://example.com/photo.jpg"
    table.loc["p21", "image_path"] = str(broken)
    table.loc["p20", "image_path"] = float("nan")
    table.loc["p19", "catalog_content"] = None
    message = (
        r"3 of 3 photos cannot be used.*row 1, index 'p23': .*gone.jpg: no such file; "
        r"row 2.*: a link, which is not downloaded; row 3.*broken.jpg: not a photo"
    )
    with pytest.warns(PlaceholderWarning, match=message) as caught:
        other = make(smooth_l1_epochs=1).fit(table, table["price"])
    assert caught[0].filename == __file__
    problems = other.problems_.set_index(["sample_id", "field"])
    assert problems.loc[("p23", "image"), "reason"] == "no such file"
    assert problems.loc[("p20", "image"), "reason"] == "no photo given"
    assert problems.loc[("p19", "text"), "row"] == 5
    assert len(problems.xs("image", level="field")) == len(table)
    with pytest.warns(PlaceholderWarning, match=message) as caught:
        price = fitted.predict(table)
    assert caught[0].filename == __file__
    assert np.isfinite(price).all()


def test_paths_begin_in_images_dir(fitted, products, tmp_path, monkeypatch):
    names = products["image_path"].map(lambda path: Path(path).name, "ignore")
    table = products.assign(image_path=names)
    folder = Path(products["image_path"].dropna().iloc[0]).parent
    expected = fitted.predict(products)
    moved = copy.copy(fitted).set_params(images_dir=folder)
    np.testing.assert_array_equal(moved.predict(table), expected)
    monkeypatch.chdir(folder)
    np.testing.assert_array_equal(fitted.predict(table), expected)
    paths = products.assign(image_path=products["image_path"].map(Path, "ignore"))
    np.testing.assert_array_equal(fitted.predict(paths), expected)


def test_several_text_columns_are_read_in_order(make, products):
    titled = products.assign(title="A title", catalog_content="tea")
    regressor = make(text_columns=["title", "catalog_content"], image_column=None)
    found = regressor._products(titled)
    assert set(found.text) == {"A title\ntea"}
    assert make(text_columns="title", image_column=None)._columns() == ["title"]


def test_a_finished_fit_is_found_again_in_its_folder(
    fitted, make, products, monkeypatch
):
    def refuse(*args, **kwargs):
        raise AssertionError("trained again")

    monkeypatch.setattr("finetune.fold.train_network", refuse)
    again = make(run_dir=fitted.run_dir_).fit(products, products["price"])
    assert again.report_ == fitted.report_
    np.testing.assert_array_equal(again.predict(products), fitted.predict(products))


def test_photos_are_kept_as_links_that_explain_finds(fitted, products):
    links = list((fitted.run_dir_ / "inputs" / "photos").iterdir())
    sources = [Path(path) for path in products["image_path"].dropna().unique()]
    assert len(links) == len(sources)
    assert all(any(link.samefile(path) for path in sources) for link in links)
    predictor = Predictor(fitted.run_dir_, n_threads=1)
    row = int(products["image_path"].notna().to_numpy().argmax())
    assert read_product(predictor, row).photo_source == "file"


def test_a_stopped_fit_goes_on_in_its_folder(make, products, tmp_path, monkeypatch):
    from finetune import fold

    whole, trained = fold.train_network, []

    def train(*args, fold, **kwargs):
        if fold == 1 and not trained.count(1):
            trained.append(fold)
            raise KeyboardInterrupt
        trained.append(fold)
        return whole(*args, fold=fold, **kwargs)

    monkeypatch.setattr(fold, "train_network", train)
    regressor = make(run_dir=tmp_path / "run", image_column=None)
    with pytest.raises(KeyboardInterrupt):
        regressor.fit(products, products["price"])
    regressor.fit(products, products["price"])
    assert trained == [0, 1, 1]


def test_a_folder_that_holds_something_else_is_left_alone(make, products, tmp_path):
    (tmp_path / "catalog.csv").write_text("mine")
    with pytest.raises(
        ConfigError, match=r"this one contains other files. Name another"
    ):
        make(run_dir=tmp_path).fit(products, products["price"])
    assert [path.name for path in tmp_path.iterdir()] == ["catalog.csv"]
    with pytest.raises(ConfigError, match="it is a file"):
        make(run_dir=tmp_path / "catalog.csv").fit(products, products["price"])


def test_inputs_of_the_user_are_no_fit_s(make, products, tmp_path):
    mine = tmp_path / "inputs" / "photos" / "a.jpg"
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    (tmp_path / "inputs" / "catalog.csv").write_text("mine")
    table = products.assign(image_path=str(mine))
    with pytest.raises(
        ConfigError, match=r"this one contains other files. Name another"
    ):
        make(run_dir=tmp_path).fit(table, table["price"])
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.name: path.read_text() for path in files} == {
        "a.jpg": "mine",
        "catalog.csv": "mine",
    }


def test_two_fits_at_once_do_not_share_a_folder(make, products, tmp_path):
    with run_lock(tmp_path / "inputs"), pytest.raises(LockedError, match="in use by"):
        make(run_dir=tmp_path).fit(products, products["price"])


def test_a_temporary_folder_lives_as_long_as_the_regressor(make, products, tmp_path):
    regressor = make(image_column=None).fit(products, products["price"])
    run_dir = regressor.run_dir_
    assert run_dir.is_dir()
    price = regressor.predict(products)
    photo = run_dir / "inputs" / "photos" / "x.jpg"
    photo.parent.mkdir()
    photo.touch()

    with (tmp_path / "model.joblib").open("wb") as file:
        joblib.dump(regressor, file)
    copied = copy.deepcopy(regressor)
    del regressor
    assert not run_dir.exists()
    assert copied.run_dir_ != run_dir
    assert not list(copied.run_dir_.rglob("x.jpg"))
    loaded = joblib.load(tmp_path / "model.joblib")
    for other in (copied, loaded):
        np.testing.assert_array_equal(other.predict(products), price)
    assert loaded.smape_ == copied.smape_


def test_a_failed_fit_leaves_no_folder_and_the_former_fit(
    make, products, monkeypatch, tmp_path
):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    regressor = make(image_column=None).fit(products, products["price"])
    before, price = regressor.run_dir_, regressor.predict(products)

    def fail(*args, **kwargs):
        raise CacheError("no more")

    monkeypatch.setattr("stack.notebook.stages.fit_stack", fail)
    with pytest.raises(CacheError, match="no more"):
        regressor.fit(products, products["price"])
    assert list(tmp_path.iterdir()) == [before]
    np.testing.assert_array_equal(regressor.predict(products), price)


def test_a_pickle_names_the_folder_that_the_user_named(fitted, products):
    pickled = pickle.dumps(fitted)
    assert len(pickled) < 100_000
    loaded = pickle.loads(pickled)  # noqa: S301 - made above
    assert loaded.run_dir_ == fitted.run_dir_
    np.testing.assert_array_equal(loaded.predict(products), fitted.predict(products))


def test_a_lost_run_folder_and_another_fit_in_it_are_named(fitted, products, tmp_path):
    loaded = pickle.loads(pickle.dumps(fitted))  # noqa: S301 - made here
    away = fitted.run_dir_.rename(tmp_path / "away")
    try:
        with pytest.raises(
            CacheError, match=r"is missing or incomplete.*call fit again"
        ):
            loaded.predict(products)
    finally:
        run_dir = away.rename(fitted.run_dir_)
    path = run_dir / "stack" / "manifest.json"
    kept = path.read_text()
    try:
        path.write_text(json.dumps(json.loads(kept) | {"key": "another"}))
        with pytest.raises(CacheError, match=r"contains another fit \(another\)"):
            loaded.predict(products)
    finally:
        path.write_text(kept)


def test_clones_have_the_settings_and_no_fit(fitted):
    cloned = clone(fitted)
    assert cloned.get_params() == fitted.get_params()
    assert not hasattr(cloned, "smape_")
    assert cloned.set_params(n_folds=4).n_folds == 4
    assert "n_folds=2" in fitted.__repr__(N_CHAR_MAX=2000)  # cut at 700 by default


@pytest.mark.slow
def test_it_works_in_cross_validation_with_smape(make, products):
    score = make_scorer(smape, greater_is_better=False)
    scores = cross_val_score(
        make(image_column=None), products, products["price"], cv=2, scoring=score
    )
    assert scores.shape == (2,)
    assert ((scores > -200) & (scores < 0)).all()


def test_it_works_in_a_pipeline_and_a_grid_search(make, products):
    lower = FunctionTransformer(lambda X: X.assign(text=X["catalog_content"].str[:40]))
    pipeline = make_pipeline(lower, make(text_columns="text", image_column=None))
    search = GridSearchCV(
        pipeline,
        {"priceregressor__smape_epochs": np.array([1])},
        cv=[(range(12), range(12, 24))],
    )
    search.fit(products, products["price"])
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    best = search.best_estimator_["priceregressor"]
    assert open_run(best.run_dir_).finetune.config.smape_epochs == 1
    assert search.predict(products).shape == (24,)


def test_progress_is_shown_only_if_asked_for(capsys):
    logger = logging.getLogger("finetune.training.loop")
    for verbose, shown in ((False, ""), (True, "epoch 1\n"), (False, "")):
        with showing(verbose):
            logger.info("epoch 1")
        assert capsys.readouterr().err == shown


class Terminal(io.StringIO):
    """Standard output or error on a terminal, where bars would be drawn."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("verbose", [False, True])
def test_a_fit_and_a_prediction_write_nothing_unless_asked_to(
    make, products, verbose, monkeypatch
):
    monkeypatch.setattr(logging.root, "handlers", [])  # as in a script
    regressor = make(image_column=None, verbose=verbose)
    with (
        contextlib.redirect_stderr(Terminal()) as errors,
        contextlib.redirect_stdout(Terminal()) as output,
    ):
        regressor.fit(products, products["price"])
        regressor.predict(products[:3])
    assert output.getvalue() == ""
    if verbose:
        assert "epoch 1 of 1" in errors.getvalue()
        assert "predict: 100%" in errors.getvalue()
    else:
        assert errors.getvalue() == ""


def test_records_reach_the_handlers_of_the_user_without_verbose(caplog):
    with showing(False):
        logging.getLogger("embed.text").warning("odd")
    assert caplog.messages == ["odd"]
