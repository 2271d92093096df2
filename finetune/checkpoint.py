"""The state of a training run after an epoch, so that a stopped one goes on."""

import logging
from dataclasses import dataclass, field
from pathlib import Path

import torch

from embed.manifest import CacheError
from finetune.model import PriceNetwork

logger = logging.getLogger(__name__)
_CHECKPOINT_NAME = "checkpoint.pt"


@dataclass(kw_only=True)
class TrainingState:
    """All that changes while a network is trained."""

    network: PriceNetwork
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: dict[str, torch.Tensor]
    """Running average of the network's weights."""
    epochs_done: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    @torch.no_grad()
    def update_average(self, *, decay: float, updates_done: int) -> None:
        """Move the average towards the weights; early on it follows them closely."""
        keep = min(decay, (1 + updates_done) / (10 + updates_done)) if decay else 0.0
        for name, tensor in self.network.state_dict().items():
            if tensor.is_floating_point():
                self.average[name].lerp_(tensor, 1 - keep)
            else:
                self.average[name].copy_(tensor)

    def save(self, fold_dir: Path) -> None:
        """Write the checkpoint whole, then put it in the old one's place."""
        partial = fold_dir / (_CHECKPOINT_NAME + ".part")
        record = {
            "epochs_done": self.epochs_done,
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "average": self.average,
            "history": self.history,
        }
        torch.save(record, partial)
        partial.replace(fold_dir / _CHECKPOINT_NAME)

    def resume(self, fold_dir: Path, device: torch.device) -> None:
        """Take up the checkpoint of the folder, if there is one.

        Raises
        ------
        CacheError
            If there is one that cannot be read.
        """
        path = fold_dir / _CHECKPOINT_NAME
        if not path.exists():
            return
        try:
            record = torch.load(path, map_location=device, weights_only=True)
            self.network.load_state_dict(record["network"])
            self.optimizer.load_state_dict(record["optimizer"])
            self.scaler.load_state_dict(record["scaler"])
            self.average.update(record["average"])
            self.history.extend(record["history"])
            self.epochs_done = int(record["epochs_done"])
        except Exception as error:  # torch.load has its own kind for each bad file
            raise CacheError(
                f"{path}: not a checkpoint of this network ({error}). Delete it; the "
                f"fold then begins anew."
            ) from error
        logger.info("%s: goes on after epoch %d", fold_dir, self.epochs_done)


def remove_checkpoint(fold_dir: Path) -> None:
    """Delete what a finished fold no longer needs."""
    (fold_dir / _CHECKPOINT_NAME).unlink(missing_ok=True)
