"""Split a text encoder into its first layers and the rest."""

import copy
from typing import Any

import torch
from torch import nn

_LAYERS = {
    **dict.fromkeys(
        ("bert", "camembert", "deberta-v2", "mpnet", "roberta", "xlm-roberta"),
        "encoder.layer",
    ),
    "distilbert": "transformer.layer",
    "modernbert": "layers",
}
"""Place of the layers, by the kind of encoder in transformers. Around them these kinds
have an embedding, modules that all layers share, and perhaps a norm after them."""

_AFTER = "final_norm"


class Embedded(nn.Module):
    """Replacement for a backbone's embedding when its input is already embedded."""

    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        inputs_embeds: torch.Tensor | None = None,
        *_: Any,
        **__: Any,
    ) -> torch.Tensor:
        """Return the embedded input."""
        del input_ids
        assert inputs_embeds is not None
        return inputs_embeds


class PassedOn(nn.Module):
    """Layer of a DeBERTa that leaves its input as it is; it cannot have none."""

    def forward(self, hidden: torch.Tensor, *_: Any, **__: Any) -> tuple[Any, None]:
        """Return the input, and no attention weights."""
        return hidden, None


def can_be_split(backbone: nn.Module) -> bool:
    """Return whether the parts around the encoder's layers are known."""
    kind = getattr(backbone.config, "model_type", "")
    # Some DeBERTas have a convolution over the first layer and its input.
    convolves = getattr(getattr(backbone, "encoder", None), "conv", None) is not None
    return kind in _LAYERS and not convolves


def lower_layers(backbone: nn.Module, n_layers: int) -> nn.Module:
    """Return an encoder's embedding and first layers; it shares their parameters."""
    others: dict[str, nn.Module] = {}
    if hasattr(backbone, _AFTER):
        others = {_AFTER: nn.Identity()}
    return _part(backbone, slice(None, n_layers), others)


def upper_layers(backbone: nn.Module, n_layers: int) -> nn.Module:
    """Return an encoder without its embedding and first layers, sharing parameters.

    It takes `inputs_embeds` and `attention_mask`.
    """
    return _part(backbone, slice(n_layers, None), {"embeddings": Embedded()})


def _part(
    backbone: nn.Module, chosen: slice, others: dict[str, nn.Module]
) -> nn.Module:
    whole: Any = backbone
    parent, _, name = _LAYERS[whole.config.model_type].rpartition(".")
    layers = backbone.get_submodule(parent)._modules[name][chosen]  # type: ignore[index]
    if not len(layers) and whole.config.model_type == "deberta-v2":
        layers = nn.ModuleList([PassedOn()])
    part = copy.copy(whole)
    part._modules = {**part._modules, **others}
    owner = part
    if parent:
        owner = copy.copy(getattr(whole, parent))
        part._modules[parent] = owner
    owner._modules = {**owner._modules, name: layers}
    module: nn.Module = part
    return module
