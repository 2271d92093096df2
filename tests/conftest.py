"""Small inputs that the tests share: a tiny text encoder, a sample, a finished run."""

import shutil
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import BertConfig, BertModel

from embed.catalog import read_catalog
from embed.config import EmbedConfig
from embed.extract import extract
from embed.sample import write_sample
from finetune.config import FinetuneConfig
from finetune.out_of_fold import finetune
from stack.config import StackConfig
from stack.fit import fit_stack

CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789.,()-'/&%"
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]


def write_tiny_encoder(folder: Path) -> Path:
    """Write a BERT of two layers, 32 wide, that reads text letter by letter."""
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
)
TINY_STACK = StackConfig(max_rounds=5, min_data_in_leaf=5, n_bootstrap=200)


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_encoder(tmp_path_factory.mktemp("encoder") / "tiny")


@pytest.fixture(scope="session")
def tiny_config(tiny_encoder: Path) -> EmbedConfig:
    """Embed quickly: exact arithmetic, a random image tower, small photos."""
    return EmbedConfig(
        text_encoder=str(tiny_encoder),
        image_encoder="no-such-encoder",
        random_weights=True,
        max_tokens=32,
        image_size=32,
        chunk_size=16,
        precision="fp32",
    )


@pytest.fixture(scope="session")
def sample_catalog(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sample of 40 products: path of its catalog; photos lie in images/."""
    return write_sample(tmp_path_factory.mktemp("sample"), n_products=40)


@pytest.fixture(scope="session")
def embedded_run(
    sample_catalog: Path,
    tiny_config: EmbedConfig,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A run folder whose embedding stage is finished. Read-only: copy it to change."""
    run_dir = tmp_path_factory.mktemp("embedded") / "run"
    extract(
        read_catalog(sample_catalog),
        run_dir,
        images_dir=sample_catalog.parent / "images",
        config=tiny_config,
    )
    return run_dir


@pytest.fixture(scope="session")
def finished_run(embedded_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder with all three stages. Read-only: copy it to change."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    shutil.copytree(embedded_run, run_dir)
    finetune(run_dir, config=TINY_TRAINING)
    fit_stack(run_dir, config=TINY_STACK)
    return run_dir
