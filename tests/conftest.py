"""Small inputs that the tests share: a tiny text encoder, a sample, a finished run."""

import os

# As the commands set it: threads that wait for one another take no core meanwhile.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
if "PYTEST_XDIST_WORKER" in os.environ:
    # Two test processes with two threads each take half as long again as with one.
    os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}

import csv
import dataclasses
import json
import multiprocessing
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from multiprocessing.context import BaseContext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import quick_suite
from made_once import made_once
from progress import Progress
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from embed.attributes import ATTRIBUTE_NAMES
from embed.catalog.own_copy import CATALOG_NAME, write_run_catalog
from embed.catalog.reader import CatalogColumns, read_catalog
from embed.config import EmbedConfig
from embed.photos.decode import encode_thumbnail
from embed.records import require_embedded
from embed.sample.law import write_sample
from embed.store.arrays import RaggedWriter
from embed.store.checksums import record_files
from finetune.config import FinetuneConfig
from stack.config import StackConfig

if TYPE_CHECKING:  # PyTorch takes seconds, which many files of tests need not wait for
    from torch import nn

    from finetune.network.wide import WidePart

RELIABILITY_PAGE = Path(__file__).with_name("RELIABILITY.md")
COUNTS_BEGIN, COUNTS_END = "<!-- counts -->\n", "<!-- end of counts -->\n"

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,()-'/&%"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


# A shell without job control has Ctrl-C ignored by what it starts in the background,
# and so by the commands that the tests start; these are to stop by it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser: pytest.Parser) -> None:
    quick_suite.add_option(parser)
    parser.addoption(
        "--write-reliability",
        action="store_true",
        help="Put what this run counted into tests/RELIABILITY.md.",
    )


@pytest.hookimpl(trylast=True)  # the terminal's reporter has to be there
def pytest_configure(config: pytest.Config) -> None:
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    if terminal is not None:
        config.pluginmanager.register(Progress(terminal))
    if config.getoption("--quick") and config.getoption("--write-reliability"):
        raise pytest.UsageError("--write-reliability needs the whole suite: no --quick")


@pytest.hookimpl(trylast=True)  # after `-k` and `-m`
def pytest_collection_modifyitems(
    config: pytest.Config, items: list[pytest.Item]
) -> None:
    quick_suite.leave_out(config, items)


@pytest.hookimpl(optionalhook=True)  # pytest-xdist's
def pytest_testnodedown(node) -> None:
    quick_suite.take_over(node.config, getattr(node, "workeroutput", {}))


@pytest.fixture(scope="session")
def few_of(pytestconfig: pytest.Config) -> Callable[[Sequence, int], list]:
    """Pick a few of a sequence in the quick suite, all of it in the whole one."""
    return quick_suite.few_of(pytestconfig)


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Count something that was tried and held: `tally("bad photos")`, `…, 30)`."""

    def add(what: str, n: int = 1) -> None:
        # A report carries these from the process that ran the test to the one that
        # sums up.
        request.node.user_properties.append((what, n))

    return add


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: int, config: pytest.Config
) -> None:
    counts: Counter[str] = Counter()
    for report in terminalreporter.getreports("passed"):
        for what, n in report.user_properties if report.when == "call" else ():
            counts[what] += n
    lines = [f"| {what} | {n:,} |" for what, n in sorted(counts.items())]
    for line in [*lines, *quick_suite.summary(config)]:
        terminalreporter.write_line(line)
    if config.getoption("--write-reliability") and not exitstatus:
        page = RELIABILITY_PAGE.read_text(encoding="utf-8")
        head, _, rest = page.partition(COUNTS_BEGIN)
        table = "\n".join(["", "| Tried, and held | Count |", "|---|---|", *lines, ""])
        tail = rest.partition(COUNTS_END)[2]
        RELIABILITY_PAGE.write_text(
            head + COUNTS_BEGIN + table + "\n" + COUNTS_END + tail, encoding="utf-8"
        )


@pytest.fixture(scope="session")
def processes() -> BaseContext:
    """Start processes, as `multiprocessing` does, that have imported everything."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["stages"])
    tests = Path(__file__).parent
    with pytest.MonkeyPatch.context() as patch:
        # The server looks for what it is to import only there.
        patch.setenv("PYTHONPATH", f"{tests}{os.pathsep}{tests.parent}")
        # What it starts computes with as many threads as a user's command.
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
            patch.delenv(name, raising=False)
        first = context.Process(target=time.sleep, args=(0,))
        first.start()
        first.join()
    return context


def write_tiny_encoder(folder: Path) -> Path:
    """Write a BERT of two layers, 32 wide, that reads text letter by letter."""
    import torch
    from transformers import BertConfig, BertModel

    pieces = [*SPECIAL, *CHARACTERS, *(f"##{letter}" for letter in CHARACTERS)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=512,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(config).save_pretrained(folder)
    return folder


TINY_TRAINING = FinetuneConfig(
    n_folds=3,
    smooth_l1_epochs=1,
    smape_epochs=1,
    batch_size=8,
    max_tokens=24,
    image_size=32,
    precision="fp32",
    n_threads=1,
    seed=1,  # three networks that agree
)
LEARNING = dataclasses.replace(
    TINY_TRAINING,
    seed=0,
    smooth_l1_epochs=5,
    smape_epochs=0,
    text_learning_rate=3e-3,
    fusion_learning_rate=5e-3,
    head_dropout=0.0,
    ema_decay=0.0,
)
"""Learn enough to price products differently."""

# Blocks fitted on prices have tests of their own, as has what each block adds.
TINY_STACK = StackConfig(
    ablation=False,
    blocks=("text", "image", "fused", "attributes", "network", "lightgbm"),
    max_rounds=5,
    min_data_in_leaf=5,
    n_seeds=2,
    n_bootstrap=200,
    n_threads=1,
)


def small_image_backbone(
    weights: Path | None, spec: object = None, *, seed: int = 0
) -> "nn.Module":
    """Stand in for EfficientNet-B0 (1280 maps, batch statistics) at no cost."""
    import torch
    from torch import nn

    del weights, spec
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 16, 8, stride=8),
            nn.BatchNorm2d(16),
            nn.Sequential(nn.SiLU()),  # a stage of one block
            nn.Conv2d(16, 1280, 1),
        )


def use_photo_tower(
    patch: pytest.MonkeyPatch, load: Callable[..., "nn.Module"]
) -> None:
    """Have the stages, and an export, make their photo tower by `load`."""
    for user in (
        "embed.encoders.embedder",
        "finetune.network.build",
        "stack.export.export",
    ):
        patch.setattr(f"{user}.load_image_backbone", load)


@pytest.fixture(scope="session", autouse=True)
def small_photo_tower(request: pytest.FixtureRequest) -> Iterator[None]:
    """Put the stand-in in place of each EfficientNet-B0 from random numbers."""
    fixtures = {name for item in request.session.items for name in item.fixturenames}
    if "torch" not in sys.modules and "tiny_encoder" not in fixtures:
        yield  # these tests do without PyTorch
        return
    from embed.encoders.specs import EFFICIENTNET_B0
    from embed.encoders.towers import load_image_backbone

    def load(
        weights: Path | None, spec: object = EFFICIENTNET_B0, *, seed: int = 0
    ) -> "nn.Module":
        is_real = weights is not None or spec != EFFICIENTNET_B0
        make = load_image_backbone if is_real else small_image_backbone
        return make(weights, spec, seed=seed)

    with pytest.MonkeyPatch.context() as patch:
        use_photo_tower(patch, load)
        yield


def set_wide(wide: "WidePart") -> None:
    """Fill a wide part with numbers, as if fitted."""
    import torch
    from torch import nn

    from finetune.network.shallow import WIDTH

    wide.idf.uniform_(1, 3)
    wide.edges.normal_().copy_(wide.edges.sort(1).values)
    shallow, n_vectors = wide.shallow, 500
    shallow.place.random_(0, n_vectors)
    vectors = torch.randn(n_vectors, WIDTH)
    shallow.vectors = nn.Parameter(vectors, requires_grad=False)
    shallow.centre.fill_(2.5)


def small_config(encoder: Path, *, chunk_size: int = 8) -> EmbedConfig:
    """Embed quickly: exact arithmetic, a random image tower, small photos."""
    return EmbedConfig(
        text_encoder=str(encoder),
        image_encoder="no-such-encoder",
        random_weights=True,
        max_tokens=32,
        image_size=32,
        chunk_size=chunk_size,
        precision="fp32",
        backend="eager",
        n_threads=1,
    )


def write_product_cache(
    folder: Path,
    token_ids: list[list[int]],
    photos: list[np.ndarray | None],
    attributes: np.ndarray | None = None,
) -> Path:
    """Write what fine-tuning reads of an embedding stage."""
    folder.mkdir(parents=True, exist_ok=True)
    n = len(token_ids)
    with RaggedWriter(
        folder / "tokens.npy", n_rows=n, dtype="int32", rows_done=0
    ) as tokens:
        for ids in token_ids:
            tokens.append(np.array(ids, dtype=np.int32))
    with RaggedWriter(
        folder / "thumbnails.npy", n_rows=n, dtype="uint8", rows_done=0
    ) as thumbnails:
        for photo in photos:
            jpeg = b"" if photo is None else encode_thumbnail(photo)
            thumbnails.append(np.frombuffer(jpeg, dtype=np.uint8))
    if attributes is None:
        attributes = np.full((n, len(ATTRIBUTE_NAMES)), np.nan, dtype=np.float32)
    np.save(folder / "attributes.npy", attributes.astype(np.float32))
    np.save(folder / "text_ok.npy", np.ones(n, dtype=bool))
    np.save(folder / "image_ok.npy", np.array([p is not None for p in photos]))
    return folder


def copy_run(run_dir: Path, to: Path, *, prices: list[str] | None = None) -> Path:
    """Copy a run; with `prices`, as if embedded from a catalog with other ones."""
    shutil.copytree(run_dir, to)
    if prices is None:
        return to
    manifest_path = to / "embed" / "manifest.json"
    manifest = json.loads(manifest_path.read_text())
    with Path(manifest["inputs"]["catalog_path"]).open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, price in zip(rows, prices, strict=True):
        row["price"] = price
    catalog_path = to / "catalog.csv"
    with catalog_path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    manifest["inputs"]["catalog_path"] = str(catalog_path)
    manifest_path.write_text(json.dumps(manifest))
    columns = require_embedded(to).inputs.columns
    write_run_catalog(read_catalog(catalog_path, columns=columns), to / "embed")
    record_anew(to / "embed", [CATALOG_NAME])
    return to


def record_anew(stage_dir: Path, names: list[str]) -> None:
    """Let a manifest take files for whole that a test has changed on purpose."""
    path = stage_dir / "manifest.json"
    manifest = json.loads(path.read_text())
    files = record_files(stage_dir, names)
    manifest["files"] |= {name: file.as_json() for name, file in files.items()}
    path.write_text(json.dumps(manifest))


Shared = Callable[[str, Callable[[Path], object]], Path]


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Return the folder of a name, which the first test to ask makes by a function.

    All processes read the same folder; copy it to change it.
    """
    folders: dict[str, Path] = {}
    with ExitStack() as stack:

        def folder_of(name: str, make: Callable[[Path], object]) -> Path:
            name = f"{make.__module__}-{name}"
            if name not in folders:
                made = made_once(tmp_path_factory, name, make)
                folders[name] = stack.enter_context(made)
            return folders[name]

        yield folder_of


@pytest.fixture(scope="session")
def tiny_encoder(shared: Shared) -> Path:
    return shared("tiny", write_tiny_encoder)


@pytest.fixture(scope="session")
def tiny_config(tiny_encoder: Path) -> EmbedConfig:
    return small_config(tiny_encoder, chunk_size=16)


def choose(run_dir: Path, chosen: str) -> Path:
    """Have a finished run price by the network or by the stacker."""
    path = run_dir / "stack" / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "chosen": chosen}))
    return run_dir


@pytest.fixture(scope="session")
def sample_catalog(shared: Shared) -> Path:
    """A sample of 40 products: path of its catalog; photos lie in images/."""
    folder = shared("sample", lambda folder: write_sample(folder, n_products=40))
    return folder / "catalog.csv"


@pytest.fixture(scope="session")
def embedded_run(
    sample_catalog: Path, tiny_config: EmbedConfig, shared: Shared
) -> Path:
    """A run folder whose embedding stage is finished."""

    def embed(folder: Path) -> None:
        from embed.extract import extract

        images_dir = sample_catalog.parent / "images"
        catalog = read_catalog(sample_catalog)
        extract(catalog, folder, images_dir=images_dir, config=tiny_config)

    return shared("embedded", embed)


@pytest.fixture(scope="session")
def finished_run(embedded_run: Path, shared: Shared) -> Path:
    """A run folder with all three stages."""

    def finish(run_dir: Path) -> None:
        from finetune.out_of_fold import finetune
        from stack.fit import fit_stack

        shutil.copytree(embedded_run, run_dir, dirs_exist_ok=True)
        finetune(run_dir, config=TINY_TRAINING)
        fit_stack(run_dir, config=dataclasses.replace(TINY_STACK, ablation=True))

    return shared("finished", finish)


TABLE_COLUMNS = CatalogColumns(
    numbers=("net weight", "stars"), dates=("listed",), categories=("brand",)
)


def write_table_catalog(folder: Path) -> Path:
    """Write a sample of 40 products with table columns, some of them blank."""
    path = write_sample(folder, n_products=40)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    rng = np.random.default_rng(0)
    for number, row in enumerate(rows):
        level = np.log(float(row["price"] or 1)) + rng.normal()
        row["net weight"] = f"{rng.uniform(0.1, 9):.1f} kg".replace(".", ",")
        row["stars"] = "" if number % 7 == 0 else f"{rng.uniform(1, 5):.1f}"
        row["stars"] = row["stars"].replace(".", ",")
        row["listed"] = f"{1 + number * 5 % 28}/{1 + number % 12}/2024"
        row["brand"] = ("Acme", "Bolt", "Crane & Co")[int(np.clip(level, 1, 3)) - 1]
        row["brand"] = "Solo" if number == 11 else row["brand"]
    with path.open("w", newline="") as file:
        lines = csv.DictWriter(file, list(rows[0]))
        lines.writeheader()
        lines.writerows(rows)
    return path


@pytest.fixture(scope="session")
def table_run(tiny_config: EmbedConfig, shared: Shared) -> Path:
    """A run of a catalog with table columns, priced by the stacker.

    Beside it lie its catalog.csv and images/.
    """

    def finish(folder: Path) -> None:
        from embed.extract import extract
        from finetune.out_of_fold import finetune
        from stack.fit import fit_stack

        catalog = read_catalog(write_table_catalog(folder), columns=TABLE_COLUMNS)
        run_dir, images_dir = folder / "run", folder / "images"
        extract(catalog, run_dir, images_dir=images_dir, config=tiny_config)
        finetune(run_dir, config=LEARNING)
        blocks = (*TINY_STACK.blocks, "statistics")
        config = dataclasses.replace(TINY_STACK, blocks=blocks, max_rounds=30)
        fit_stack(run_dir, config=config)
        choose(run_dir, "stacker")

    return shared("table", finish) / "run"


@pytest.fixture(scope="session")
def small_catalog(shared: Shared) -> Path:
    """A sample of 24 products, for stages that are run many times."""
    folder = shared("small", lambda folder: write_sample(folder, n_products=24))
    return folder / "catalog.csv"


@pytest.fixture(scope="session")
def whole_stages(
    small_catalog: Path, tiny_encoder: Path, shared: Shared
) -> dict[str, tuple[Path, dict[str, bytes]]]:
    """Run folders as they are before each stage, and what they hold after it."""
    from stages import STAGES, contents, run_stage  # late: it imports this file

    def run_all(folder: Path) -> None:
        run_dir = folder / "run"
        run_dir.mkdir()
        for stage in STAGES:
            shutil.copytree(run_dir, folder / f"before-{stage}")
            run_stage(stage, run_dir, small_catalog, tiny_encoder)

    folder = shared("stages", run_all)
    before = [folder / f"before-{stage}" for stage in STAGES]
    after = [contents(run_dir) for run_dir in (*before[1:], folder / "run")]
    return dict(zip(STAGES, zip(before, after, strict=True), strict=True))
