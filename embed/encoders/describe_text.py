"""Describe a text encoder by the files beside its weights.

Encoders made by sentence-transformers record their pooling (`modules.json`, then
`1_Pooling/config.json`) and their prompts (`config_sentence_transformers.json`).
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

from transformers import PreTrainedConfig

from embed.encoders.files import load_tokenizer, read_json, read_text_config
from embed.encoders.specs import Pooling, TextSpec
from embed.encoders.weights import WeightsError

logger = logging.getLogger(__name__)

MODULES_NAME = "modules.json"
PROMPTS_NAME = "config_sentence_transformers.json"
_NO_POOLING = ("Transformer", "Dense", "Normalize", "Dropout")  # other modules
_DOCUMENT_PROMPTS = ("document", "passage", "corpus")
_LONGEST = 8192  # tokens, for encoders without a table of positions
# The first position of these is that after their padding token's id.
_OFFSET_TYPES = ("camembert", "mpnet", "roberta", "xlm-roberta", "xlm-roberta-xl")
_N_SPECIAL_TOKENS = 2
_REMEDY = "Give the encoder's own file, or delete it."
_OLD_NAMES: Mapping[str, Pooling] = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}


def describe_text_encoder(folder: Path, *, prefix: str | None = None) -> TextSpec:
    """Describe the text encoder of a folder.

    Parameters
    ----------
    folder : Path
        Folder with config.json and tokenizer.json.
    prefix : str, optional
        Text before each product's text; by default the encoder's prompt for documents,
        if it has one.

    Raises
    ------
    WeightsError
        If a file is damaged, or the encoder is of a kind that cannot be used.
    """
    config = read_text_config(folder)
    pad_id = _pad_id(config)
    pooling, reads_prompt = _pooling(folder)
    if prefix is None:
        prefix = _prompt(folder)
    if prefix and not reads_prompt:
        raise WeightsError(
            f"text encoder {folder}: its pooling leaves out the prompt {prefix!r}, "
            f"which is not supported. Give --text-prefix '' to do without a prompt."
        )
    _require_two_special_tokens(folder)
    return TextSpec(
        model_type=str(config.model_type),
        dim=int(config.hidden_size) * len(pooling),
        n_layers=int(getattr(config, "num_hidden_layers", 0)),
        max_tokens=_positions(config, pad_id),
        pooling=pooling,
        prefix=prefix,
        pad_id=pad_id,
    )


def _pad_id(config: PreTrainedConfig) -> int:
    pad_id = getattr(config, "pad_token_id", None)
    known = isinstance(pad_id, int) and 0 <= pad_id < config.vocab_size
    return int(pad_id) if known else 0  # type: ignore[arg-type]


def _positions(config: PreTrainedConfig, pad_id: int) -> int:
    """Return the largest number of tokens, a multiple of 8, as batches are padded."""
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int) or positions < 1:
        return _LONGEST
    if config.model_type in _OFFSET_TYPES:
        positions -= pad_id + 1
    return min(positions // 8 * 8, _LONGEST)


def _require_two_special_tokens(folder: Path) -> None:
    tokenizer = load_tokenizer(folder)
    tokenizer.no_padding()
    n_special = len(tokenizer.encode("").ids)
    if n_special != _N_SPECIAL_TOKENS:
        raise WeightsError(
            f"text encoder {folder}: its tokenizer.json adds {n_special} special "
            f"tokens to a text, expected one before and one after it, as BERT's and "
            f"RoBERTa's do. Choose such an encoder."
        )


def _pooling(folder: Path) -> tuple[list[Pooling], bool]:
    """Return the recorded pooling, and whether it includes the prompt's tokens."""
    path = folder / MODULES_NAME
    if not path.is_file():
        return ["mean"], True
    place = None
    for module in read_json(path, list, remedy=_REMEDY):
        known = module if isinstance(module, dict) else {}
        kind = str(known.get("type")).rsplit(".", 1)[-1]
        if kind == "Pooling":
            place = Path(str(known.get("path"))).name  # always beside modules.json
        elif kind == "Dense":
            logger.info(
                "text encoder %s: its dense layer after the pooling is not used",
                folder,
            )
        elif kind not in _NO_POOLING:
            raise WeightsError(
                f"{path}: the module {kind} is not supported, only a transformer and "
                f"its pooling. Choose another encoder."
            )
    if place is None:
        return ["mean"], True
    return _read_pooling(folder / place / "config.json")


def _read_pooling(path: Path) -> tuple[list[Pooling], bool]:
    record = read_json(path, dict, remedy=_REMEDY)
    names = record.get("pooling_mode") or [
        pooling for name, pooling in _OLD_NAMES.items() if record.get(name)
    ]
    poolings: list[Any] = [names] if isinstance(names, str) else list(names)
    known = get_args(Pooling)
    if unknown := [name for name in poolings if name not in known]:
        raise WeightsError(
            f"{path}: the pooling must be one of {', '.join(known)}, found "
            f"{unknown[0]!r}. Choose another encoder."
        )
    return poolings or ["mean"], bool(record.get("include_prompt", True))


def _prompt(folder: Path) -> str:
    """Return the prompt for documents, "" if the encoder has none."""
    path = folder / PROMPTS_NAME
    if not path.is_file():
        return ""
    record = read_json(path, dict, remedy=_REMEDY)
    prompts = record.get("prompts") or {}
    names = (record.get("default_prompt_name"), *_DOCUMENT_PROMPTS)
    return next((str(prompts[name]) for name in names if prompts.get(name)), "")
