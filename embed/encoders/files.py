"""The files of a text encoder: read as data, whoever wrote them."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedConfig

from embed.encoders.weights import WeightsError


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load an encoder's tokenizer.

    Parameters
    ----------
    folder : Path
        With config.json and tokenizer.json.

    Raises
    ------
    WeightsError
        If it is not one, or knows more tokens than the encoder.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # what it raises is no narrower than that
        raise WeightsError(
            f"{path}: not a tokenizer ({_first_line(error)}). Give the encoder's own."
        ) from error
    known, found = int(read_text_config(folder).vocab_size), tokenizer.get_vocab_size()
    if found > known:
        raise WeightsError(
            f"{path}: has {found} tokens, the encoder beside it {known}. Give the "
            f"encoder's own."
        )
    return tokenizer


def read_text_config(folder: Path) -> PreTrainedConfig:
    """Read an encoder's config.json.

    Raises
    ------
    WeightsError
        If it is not one of a model that transformers knows.
    """
    require_plain_encoder(folder)
    with one_line_of_transformers(folder):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False
        )
        for name in ("hidden_size", "vocab_size"):
            if not getattr(config, name) > 0:
                raise ValueError(f"{name} is {getattr(config, name)}")
    return config


@contextlib.contextmanager
def one_line_of_transformers(folder: Path) -> Iterator[None]:
    """Turn what transformers raises for a bad folder into a WeightsError."""
    try:
        yield
    except Exception as error:  # it raises of its own and of others for bad files
        raise WeightsError(
            f"text encoder {folder}: not a model that transformers loads "
            f"({_first_line(error)}). Give a folder with config.json, tokenizer.json "
            f"and model.safetensors of a BERT-like encoder."
        ) from error


def require_plain_encoder(folder: Path) -> None:
    """Refuse what would bring in code or weights from outside the encoder's files.

    Raises
    ------
    WeightsError
        If an adapter lies beside them, or config.json is no JSON or names such code.
    """
    if (folder / "adapter_config.json").exists():
        raise WeightsError(
            f"text encoder {folder}: holds an adapter (adapter_config.json), which is "
            f"not in the run's key. Merge it into model.safetensors, or remove it."
        )
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: not readable as JSON ({_first_line(error)}). Give the encoder's "
            f"own."
        ) from error
    # transformers takes such a name for a repository of compiled code, and loads it.
    named = [name for name in _attention_names(config) if "/" in str(name)]
    if named:
        raise WeightsError(
            f"{path}: attn_implementation must not name code outside of transformers, "
            f"got {named[0]!r}. Remove the line."
        )


def _attention_names(config: object) -> Iterator[object]:
    """Yield how attention is to be computed, wherever a configuration says it."""
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(config, dict):
        parts = config.items()
    elif isinstance(config, list):
        parts = enumerate(config)
    for name, value in parts:
        if "attn_implementation" in str(name):
            yield value
        yield from _attention_names(value)


def _first_line(error: BaseException) -> str:
    return str(error).strip().split("\n", 1)[0][:200] or type(error).__name__
