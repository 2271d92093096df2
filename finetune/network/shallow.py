"""A shallow network on a bag of terms: the sum of their vectors, then two layers.

References
----------
Joulin et al. (2016), "Bag of Tricks for Efficient Text Classification",
arXiv:1607.01759: on short texts, vectors of hashed n-grams score as well as deep
networks. Training takes seconds.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import nn

WIDTH = 64
"""Width of the vectors and the hidden layer; 128 gains 0.1 SMAPE in three times the
time."""

_LEAST_ROWS = 2  # a column in fewer rows has no vector
_N_EPOCHS, _WARM_SHARE = 8, 0.1
_RATE, _RATE_OF_VECTORS = 4e-3, 1e-2  # peak learning rates
_STEPS_PER_EPOCH = 12  # at least: a step has 16 to 512 rows
_BATCH = (16, 512)
_BETA = 0.3  # of SmoothL1, in standard deviations of log price
_FIRST_SPREAD = 0.05  # of the vectors
_PREDICTED_ROWS = 4096  # in one batch


class ShallowNetwork(nn.Module):
    """A network that predicts the log price from a sparse row of terms.

    Parameters
    ----------
    n_columns : int
    """

    place: torch.Tensor
    centre: torch.Tensor
    scale: torch.Tensor

    def __init__(self, n_columns: int) -> None:
        super().__init__()
        self.register_buffer("place", torch.zeros(n_columns, dtype=torch.int32))
        self.register_buffer("centre", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))
        self.vectors = nn.Parameter(torch.zeros(1, WIDTH), requires_grad=False)
        self.bias = nn.Parameter(torch.zeros(WIDTH), requires_grad=False)
        self.hidden = nn.Linear(WIDTH, WIDTH).requires_grad_(False)
        self.output = nn.Linear(WIDTH, 1).requires_grad_(False)

    def look_up(self, columns: torch.Tensor) -> torch.Tensor:
        """Return the vectors of columns, shape (..., WIDTH); 0 where there is none."""
        return self.vectors[self.place[columns].long()]

    def forward(self, total: torch.Tensor) -> torch.Tensor:
        """Return log1p price, shape (batch,).

        Parameters
        ----------
        total : Tensor of shape (batch, WIDTH)
            Sum of a product's values times the vectors of their columns.
        """
        hidden = F.relu(self.hidden(F.relu(total + self.bias)))
        standardised: torch.Tensor = self.output(hidden).squeeze(1)
        return standardised * self.scale + self.centre

    def fit(
        self, matrix: csr_array, log_price: NDArray[np.floating], *, seed: int
    ) -> "ShallowNetwork":
        """Fit on some products, from new weights.

        Parameters
        ----------
        matrix : csr_array of shape (n_products, n_columns), float32
        log_price : ndarray of shape (n_products,)
            log1p price.
        seed : int
            Seed of the initial weights and the order of rows.
        """
        rng = torch.Generator().manual_seed(seed)
        self._prepare(matrix, log_price, rng)
        n = len(log_price)
        batch = int(np.clip(-(-n // _STEPS_PER_EPOCH), *_BATCH))
        n_steps = _N_EPOCHS * -(-n // batch)
        target = torch.from_numpy(log_price.astype(np.float32))
        self.requires_grad_(True)
        # SparseAdam updates only the vectors that a batch uses.
        optimizers = [
            torch.optim.SparseAdam([self.vectors], lr=_RATE_OF_VECTORS),
            torch.optim.Adam(
                [p for p in self.parameters() if p is not self.vectors], lr=_RATE
            ),
        ]
        schedules = [
            torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda step: _share(step, n_steps)
            )
            for optimizer in optimizers
        ]
        for step in range(n_steps):
            if step % (n_steps // _N_EPOCHS) == 0:
                order = torch.randperm(n, generator=rng).numpy()
            start = step % (n_steps // _N_EPOCHS) * batch
            rows = np.sort(order[start : start + batch])
            loss = F.smooth_l1_loss(
                self._price(matrix[rows]) / self.scale,
                target[rows] / self.scale,
                beta=_BETA,
            )
            for optimizer in optimizers:
                optimizer.zero_grad()
            loss.backward()
            for optimizer, schedule in zip(optimizers, schedules, strict=True):
                optimizer.step()
                schedule.step()
        self.zero_grad()  # leftover gradients would count in the norm for clipping
        return self.requires_grad_(False)

    def predict(self, matrix: csr_array) -> NDArray[np.float32]:
        """Return log1p price, shape (n_products,)."""
        chunks = [
            self._price(matrix[start : start + _PREDICTED_ROWS]).numpy()
            for start in range(0, matrix.shape[0], _PREDICTED_ROWS)
        ]
        return np.concatenate(chunks)

    def _load_from_state_dict(
        self, state_dict: dict[str, torch.Tensor], prefix: str, *others: Any
    ) -> None:
        """Allocate as many vectors as were learned; refuse places beyond them."""
        vectors = state_dict.get(f"{prefix}vectors")
        if vectors is not None and vectors.shape[1:] == (WIDTH,):
            if vectors.shape != self.vectors.shape:
                zeros = self.vectors.new_zeros(vectors.shape)
                self.vectors = nn.Parameter(zeros, requires_grad=False)
            place = state_dict.get(f"{prefix}place")
            if place is not None and not _within(place, len(vectors)):
                errors: list[str] = others[-1]
                errors.append(f"{prefix}place is not within the {len(vectors)} vectors")
        super()._load_from_state_dict(state_dict, prefix, *others)

    def _prepare(
        self,
        matrix: csr_array,
        log_price: NDArray[np.floating],
        rng: torch.Generator,
    ) -> None:
        """Assign vectors to columns and initialise all weights."""
        n_rows = np.bincount(matrix.indices, minlength=len(self.place))
        known = np.flatnonzero(n_rows >= _LEAST_ROWS)
        self.place.zero_()[known] = torch.arange(1, len(known) + 1, dtype=torch.int32)
        vectors = torch.randn(len(known) + 1, WIDTH, generator=rng) * _FIRST_SPREAD
        vectors[0] = 0
        self.vectors = nn.Parameter(vectors)
        self.bias.zero_()
        for layer in (self.hidden, self.output):
            bound = layer.in_features**-0.5
            for values in (layer.weight, layer.bias):
                values.uniform_(-bound, bound, generator=rng)
        self.centre.fill_(float(np.median(log_price)))
        self.scale.fill_(max(float(log_price.std()), 1e-3))

    def _price(self, matrix: csr_array) -> torch.Tensor:
        total = F.embedding_bag(
            torch.from_numpy(self.place.numpy()[matrix.indices].astype(np.int64)),
            self.vectors,
            torch.from_numpy(matrix.indptr[:-1].astype(np.int64)),
            per_sample_weights=torch.from_numpy(matrix.data.astype(np.float32)),
            mode="sum",
            padding_idx=0,
            sparse=True,
        )
        price: torch.Tensor = self(total)
        return price


def _within(place: torch.Tensor, n_vectors: int) -> bool:
    return bool(((place >= 0) & (place < n_vectors)).all())


def _share(step: int, n_steps: int) -> float:
    """Return the share of the peak learning rate: it rises for a tenth, then falls."""
    warm = max(1.0, _WARM_SHARE * n_steps)
    return min((step + 1) / warm, (n_steps - step) / (n_steps - warm))
