"""Turn the token vectors of a text into one vector.

Reimers and Gurevych, 2019, "Sentence-BERT: Sentence Embeddings using Siamese
BERT-Networks", arXiv:1908.10084; the other poolings are those of the package
sentence-transformers.
"""

from collections.abc import Callable, Mapping, Sequence

import torch

from embed.encoders.specs import Pooling

MEAN: tuple[Pooling, ...] = ("mean",)


def pool_tokens(
    hidden: torch.Tensor, mask: torch.Tensor, poolings: Sequence[Pooling] = MEAN
) -> torch.Tensor:
    """Pool token vectors where the mask is 1, in float32.

    Parameters
    ----------
    hidden : Tensor of shape (batch, tokens, dim)
    mask : Tensor of shape (batch, tokens), 1 for the first tokens, then 0
    poolings : sequence of str
        Ways to pool; their vectors are concatenated in this order.

    Returns
    -------
    float32 Tensor of shape (batch, len(poolings) * dim)
    """
    pooled = [_POOLINGS[name](hidden, mask) for name in poolings]
    return pooled[0] if len(pooled) == 1 else torch.cat(pooled, dim=1)


def mean_pool(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average token vectors where the mask is 1, in float32.

    Parameters
    ----------
    hidden : Tensor of shape (batch, tokens, dim)
    mask : Tensor of shape (batch, tokens), 0 or 1
    """
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1)


def _first(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    del mask
    return hidden[:, 0].float()


def _largest(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    least = torch.finfo(torch.float32).min
    return hidden.float().masked_fill(mask.unsqueeze(-1) == 0, least).amax(1)


def _mean_sqrt_len(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    weights = mask.unsqueeze(-1).float()
    return (hidden.float() * weights).sum(1) / weights.sum(1).clamp(min=1).sqrt()


def _weighted_mean(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Average with weights 1, 2, 3, … (Muennighoff, 2022, arXiv:2202.08904)."""
    return mean_pool(hidden, mask * mask.cumsum(1))


def _last(hidden: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    place = (mask.sum(1) - 1).clamp(min=0)[:, None, None]
    return hidden.gather(1, place.expand(-1, 1, hidden.shape[2]))[:, 0].float()


_POOLINGS: Mapping[Pooling, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "cls": _first,
    "max": _largest,
    "mean": mean_pool,
    "mean_sqrt_len_tokens": _mean_sqrt_len,
    "weightedmean": _weighted_mean,
    "lasttoken": _last,
}
