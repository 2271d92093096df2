"""Read the files of a text encoder as data only, without running code from them."""

import contextlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

from tokenizers import Tokenizer
from transformers import AutoConfig, PreTrainedConfig

from embed.encoders.weights import WeightsError, first_line

_Value = TypeVar("_Value")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Load an encoder's tokenizer.

    Parameters
    ----------
    folder : Path
        Folder with config.json and tokenizer.json.

    Raises
    ------
    WeightsError
        If the file is no tokenizer, or has more tokens than the encoder.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises plain Exception
        raise WeightsError(
            f"{path}: not a tokenizer ({first_line(error)}). Give the encoder's own."
        ) from error
    n_tokens = tokenizer.get_vocab_size()
    n_embeddings = int(read_text_config(folder).vocab_size)
    if n_tokens > n_embeddings:
        raise WeightsError(
            f"{path}: has {n_tokens} tokens, the encoder beside it {n_embeddings}. "
            f"Give the encoder's own."
        )
    return tokenizer


def read_text_config(folder: Path) -> PreTrainedConfig:
    """Read an encoder's config.json.

    Raises
    ------
    WeightsError
        If config.json does not describe a model that transformers supports.
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
def one_line_of_transformers(
    folder: Path, kind: Literal["text", "image"] = "text"
) -> Iterator[None]:
    """Turn errors of transformers about a bad folder into a WeightsError."""
    needed = {
        "text": "tokenizer.json and model.safetensors of an encoder such as BERT",
        "image": "preprocessor_config.json and model.safetensors of a vision encoder",
    }
    try:
        yield
    except Exception as error:  # transformers passes on errors of many libraries
        raise WeightsError(
            f"{kind} encoder {folder}: not a model that transformers loads "
            f"({first_line(error)}). Give a folder with config.json, {needed[kind]}."
        ) from error


def read_json(path: Path, kind: type[_Value], *, remedy: str) -> _Value:
    """Read an encoder's JSON file, which contains a value of this type.

    Raises
    ------
    WeightsError
        If it does not; the message ends with the remedy.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(record, kind):
            raise ValueError(f"found {type(record).__name__}")
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(
            f"{path}: not readable as JSON ({error}). {remedy}"
        ) from error
    return record


def require_plain_encoder(
    folder: Path, kind: Literal["text", "image"] = "text"
) -> None:
    """Refuse an encoder that would load code or weights from outside its files.

    Raises
    ------
    WeightsError
        If the folder has an adapter, or config.json is no JSON or names outside code.
    """
    if (folder / "adapter_config.json").exists():
        raise WeightsError(
            f"{kind} encoder {folder}: has an adapter (adapter_config.json), which is "
            f"not supported. Merge it into model.safetensors, or remove it."
        )
    path = folder / "config.json"
    config = read_json(path, object, remedy="Give the encoder's own.")
    # transformers reads a name with a slash as a code repository, and loads it.
    named = [name for name in _attention_names(config) if "/" in str(name)]
    if named:
        raise WeightsError(
            f"{path}: attn_implementation must not name code outside of transformers, "
            f"got {named[0]!r}. Remove the line."
        )


def _attention_names(config: object) -> Iterator[object]:
    """Yield all names of attention implementations in a configuration."""
    parts: Iterable[tuple[object, object]] = ()
    if isinstance(config, dict):
        parts = config.items()
    elif isinstance(config, list):
        parts = enumerate(config)
    for name, value in parts:
        if "attn_implementation" in str(name):
            yield value
        yield from _attention_names(value)
