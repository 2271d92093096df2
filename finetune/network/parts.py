"""Parts of the network around its towers: projections, vectors and head."""

from collections.abc import Iterable, Sequence
from typing import cast

import torch
from torch import nn

from embed.encoders.specs import Pooling

TOWER_DIM = 256
"""Width of each half of the fused embedding."""

CATEGORY_DIM = 16
"""Width of the learned vector of a category's code."""


def width_of_texts(backbone: nn.Module | None, pooling: Sequence[Pooling]) -> int:
    """Return the width of the pooled features of a text tower, 0 without one."""
    if backbone is None:
        return 0
    return int(backbone.config.hidden_size) * len(pooling)  # type: ignore[union-attr, arg-type]


def project(projection: nn.Module, features: torch.Tensor) -> torch.Tensor:
    """Project features in the number format of the projection."""
    dtype = next(projection.parameters()).dtype
    return cast(torch.Tensor, projection(features.to(dtype)))


def build_projection(dim: int) -> nn.Module:
    """Return the projection of a tower's features; without a tower it is not used."""
    return nn.Linear(dim, TOWER_DIM) if dim else nn.Identity()


def zero_vectors(n_codes: int) -> nn.Embedding:
    """Return vectors of a category's codes that begin with 0."""
    vectors = nn.Embedding(n_codes, CATEGORY_DIM)
    nn.init.zeros_(vectors.weight)
    return vectors


def build_head(input_dim: int, dropout: float) -> nn.Sequential:
    """Return the fusion head, from the fused embedding to a standardised log price."""
    return nn.Sequential(
        nn.Linear(input_dim, 256),
        nn.BatchNorm1d(256),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(256, 64),
        nn.BatchNorm1d(64),
        nn.GELU(),
        nn.Dropout(dropout),
        nn.Linear(64, 1),
    )


def optimizer_groups(
    parameters: Iterable[nn.Parameter], rate: float, weight_decay: float
) -> list[dict[str, object]]:
    """Return AdamW's groups of the trained parameters, with decay on matrices only."""
    trained = [p for p in parameters if p.requires_grad]
    parts = (
        (weight_decay, [p for p in trained if p.ndim > 1]),
        (0.0, [p for p in trained if p.ndim <= 1]),
    )
    return [
        {
            "params": members,
            "lr": rate,
            "initial_lr": rate,
            "weight_decay": decay,
        }
        for decay, members in parts
    ]


def parameters_of(backbone: nn.Module | None) -> Iterable[nn.Parameter]:
    """Return the parameters of a tower, none without one."""
    return backbone.parameters() if backbone is not None else ()


def full_precision(tensor: torch.Tensor) -> torch.autocast:
    """Return the context in which autocast is off on a tensor's device."""
    return torch.autocast(tensor.device.type, enabled=False)
