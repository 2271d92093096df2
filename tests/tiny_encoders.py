"""Tiny encoders of many kinds, from random numbers, in the files of real ones."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import transformers
from conftest import CHARACTERS
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

_WIDTHS = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
}
# Special tokens in the order of their ids, and the padding's id.
_BERT = (["[PAD]", "[UNK]", "[CLS]", "[SEP]"], ("[CLS]", "[SEP]"), 0)
_ROBERTA = (["<s>", "<pad>", "</s>", "<unk>"], ("<s>", "</s>"), 1)


def _deberta() -> transformers.PretrainedConfig:
    return transformers.DebertaV2Config(
        **_WIDTHS,
        relative_attention=True,
        position_buckets=16,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
        max_position_embeddings=512,
    )


def _modern() -> transformers.PretrainedConfig:
    return transformers.ModernBertConfig(
        **_WIDTHS, max_position_embeddings=1024, local_attention=8, pad_token_id=0
    )


TEXT_KINDS: dict[str, tuple[Callable[[], transformers.PretrainedConfig], tuple]] = {
    "bert": (lambda: transformers.BertConfig(**_WIDTHS), _BERT),
    "mpnet": (
        lambda: transformers.MPNetConfig(**_WIDTHS, max_position_embeddings=514),
        _ROBERTA,
    ),
    "deberta-v2": (_deberta, _BERT),
    "modernbert": (_modern, _BERT),
    "distilbert": (
        lambda: transformers.DistilBertConfig(
            dim=32, n_layers=3, n_heads=2, hidden_dim=48
        ),
        _BERT,
    ),
    "xlm-roberta": (
        lambda: transformers.XLMRobertaConfig(**_WIDTHS, max_position_embeddings=514),
        _ROBERTA,
    ),
    "electra": (
        lambda: transformers.ElectraConfig(**_WIDTHS, embedding_size=16),
        _BERT,
    ),
}
"""Configuration, special tokens and padding by kind of text encoder."""


def write_text_encoder(
    folder: Path,
    kind: str,
    *,
    pooling: str | None = None,
    prompts: dict[str, str] | None = None,
) -> Path:
    """Write a text encoder of three layers, 32 wide, that reads letter by letter."""
    make_config, (special, framing, pad_id) = TEXT_KINDS[kind]
    pieces = [*special, *CHARACTERS, *(f"##{letter}" for letter in CHARACTERS)]
    vocabulary = {piece: number for number, piece in enumerate(pieces)}
    unknown = next(piece for piece in special if "unk" in piece.lower())
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token=unknown))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{framing[0]} $A {framing[1]}",
        special_tokens=[(token, vocabulary[token]) for token in framing],
    )
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    config = make_config()
    config.vocab_size, config.pad_token_id = len(vocabulary), pad_id
    _save(transformers.AutoModel.from_config, config, folder)
    if pooling is not None:
        _record_pooling(folder, pooling)
    if prompts is not None:
        record = {"prompts": prompts, "default_prompt_name": None}
        path = folder / "config_sentence_transformers.json"
        path.write_text(json.dumps(record))
    return folder


def _record_pooling(folder: Path, pooling: str) -> None:
    kinds = ("Transformer", "Pooling", "Normalize")
    modules = [
        {"idx": place, "path": f"{place}_{kind}" if place else "", "type": f"st.{kind}"}
        for place, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    record = {"word_embedding_dimension": 32, pooling: True}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(record))


_VISION = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}


def _with_text(config: type, text: type, vision: type) -> transformers.PretrainedConfig:
    words = {**_WIDTHS, "vocab_size": 50, "max_position_embeddings": 16}
    return config(
        text_config=text(**words).to_dict(), vision_config=vision(**_VISION).to_dict()
    )


VISION_KINDS: dict[str, Callable[[], transformers.PretrainedConfig]] = {
    "clip": lambda: _with_text(
        transformers.CLIPConfig,
        transformers.CLIPTextConfig,
        transformers.CLIPVisionConfig,
    ),
    "siglip": lambda: _with_text(
        transformers.SiglipConfig,
        transformers.SiglipTextConfig,
        transformers.SiglipVisionConfig,
    ),
    "dinov2": lambda: transformers.Dinov2Config(**_VISION),
    "resnet": lambda: transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic"
    ),
}
"""Configuration by kind of vision encoder."""


def write_vision_encoder(
    folder: Path, kind: str, *, mean: Sequence[float] = (0.4, 0.5, 0.6)
) -> Path:
    """Write a vision encoder of transformers for photos of 32 pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    _save(transformers.AutoModel.from_config, VISION_KINDS[kind](), folder)
    preparation = {
        "crop_size": {"height": 32, "width": 32},
        "size": {"shortest_edge": 36},
        "image_mean": list(mean),
        "image_std": [0.2, 0.25, 0.3],
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(preparation))
    return folder


def _save(make: Callable, config: transformers.PretrainedConfig, folder: Path) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        make(config).save_pretrained(folder)
