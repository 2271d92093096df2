"""Save the state of training after an epoch, so that a stopped run can resume.

The checkpoint is one safetensors file: tensors by name, and the rest as JSON in its
header. Nothing is unpickled, so a run folder from elsewhere cannot run code.
"""

import json
import logging
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save

from embed.errors import CacheError
from embed.store.durable import whole_file
from embed.store.records import describe_fault
from finetune.network.model import PriceNetwork
from finetune.records import CheckpointRecord, HistoryRow

logger = logging.getLogger(__name__)
_CHECKPOINT_NAME = "checkpoint.safetensors"
_RECORD = "training"  # key in the header for everything but tensors
Tensors = dict[str, torch.Tensor]


@dataclass(kw_only=True)
class TrainingState:
    """The state that changes during training."""

    network: PriceNetwork
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    average: Tensors
    """Running average of the network's weights."""
    epochs_done: int = 0
    history: list[HistoryRow] = field(default_factory=list)
    _moving: list[tuple[torch.Tensor, torch.Tensor]] | None = field(
        default=None, init=False, repr=False
    )

    @torch.no_grad()
    def update_average(self, *, decay: float, updates_done: int) -> None:
        """Move the average towards the weights, by larger steps in early updates."""
        keep = min(decay, (1 + updates_done) / (10 + updates_done)) if decay else 0.0
        if self._moving is None:
            self._moving = self._pair_tensors()
        for average, tensor in self._moving:
            if tensor.is_floating_point():
                average.lerp_(tensor, 1 - keep)
            else:
                average.copy_(tensor)

    def _pair_tensors(self) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return each trained tensor with its average.

        The result is kept for all steps, as the search takes 8 to 16 ms.
        """
        parameters = self.network.named_parameters()
        frozen = {name for name, tensor in parameters if not tensor.requires_grad}
        return [
            (self.average[name], tensor)  # shares memory with the network
            for name, tensor in self.network.state_dict().items()
            if name not in frozen
        ]

    def save(self, fold_dir: Path) -> None:
        """Write the checkpoint whole, then replace the old one."""
        # The optimizer's groups are left out: they come from the configuration, and
        # their learning rates are set for every batch.
        tensors = {
            **_prefixed("network", self.network.state_dict()),
            **_prefixed("average", self.average),
            **_prefixed("optimizer", _flat(self.optimizer.state_dict()["state"])),
        }
        tensors = {name: tensor.contiguous().cpu() for name, tensor in tensors.items()}
        record = CheckpointRecord(
            epochs_done=self.epochs_done,
            history=self.history,
            scaler=self.scaler.state_dict(),
            crc32=_checksum(tensors),
        )
        text = json.dumps(record.as_json(), allow_nan=False)
        content = save(tensors, metadata={_RECORD: text})
        with whole_file(fold_dir / _CHECKPOINT_NAME) as file:
            file.write(content)

    def resume(self, fold_dir: Path) -> None:
        """Load the checkpoint of the folder, if there is one.

        Raises
        ------
        CacheError
            If the checkpoint cannot be read or belongs to another network.
        """
        path = fold_dir / _CHECKPOINT_NAME
        if not path.exists():
            return
        try:
            self._load(*_read(path))
        except Exception as error:  # safetensors and torch raise many types
            reason = str(error).strip().split("\n", 1)[0]
            raise CacheError(
                f"{path}: not a checkpoint of this network ({reason}). Delete it; the "
                f"fold then starts again."
            ) from error
        logger.info("%s: goes on after epoch %d", fold_dir, self.epochs_done)

    def _load(self, tensors: Tensors, record: CheckpointRecord) -> None:
        if record.epochs_done != len(record.history):
            raise ValueError("epochs_done and the rows of its history differ")
        _copy_into(self.network.state_dict(), _without_prefix("network", tensors))
        _copy_into(self.average, _without_prefix("average", tensors))
        self._load_optimizer(_without_prefix("optimizer", tensors))
        if record.crc32 != _checksum(tensors):
            raise ValueError("its tensors are not those that were written")
        self.scaler.load_state_dict(record.scaler)
        self.history += record.history
        self.epochs_done = record.epochs_done

    def _load_optimizer(self, tensors: Tensors) -> None:
        groups = self.optimizer.state_dict()["param_groups"]
        parameters = [p for g in self.optimizer.param_groups for p in g["params"]]
        state: dict[int, Tensors] = {}
        for name, tensor in tensors.items():
            number, _, key = name.partition("/")
            like = parameters[_index(number)]
            if key == "step":
                like = like.new_zeros(())
            # In its parameter's memory order, which safetensors does not record.
            moved = torch.empty_like(like, dtype=tensor.dtype)
            _copy_into({name: moved}, {name: tensor})
            state.setdefault(_index(number), {})[key] = moved
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})


def remove_checkpoint(fold_dir: Path) -> None:
    """Delete the checkpoint of a finished fold."""
    (fold_dir / _CHECKPOINT_NAME).unlink(missing_ok=True)


def _read(path: Path) -> tuple[Tensors, CheckpointRecord]:
    with safe_open(path, framework="pt") as file:
        record = _checked(json.loads(file.metadata()[_RECORD]))
        names = file.keys()  # a list, as the file itself is not a mapping
        return {name: file.get_tensor(name) for name in names}, record


def _checked(record: object) -> CheckpointRecord:
    try:
        return CheckpointRecord.model_validate(record)
    except ValidationError as error:
        raise ValueError(describe_fault(error, found="found")) from None


def _checksum(tensors: Tensors) -> int:
    crc = 0
    for name in sorted(tensors):
        content = tensors[name].reshape(-1).view(torch.uint8).numpy()
        crc = zlib.crc32(content.data, zlib.crc32(name.encode(), crc))
    return crc


def _flat(state: dict[int, Tensors]) -> Tensors:
    return {
        f"{number}/{key}": tensor
        for number, tensors in state.items()
        for key, tensor in tensors.items()
    }


def _prefixed(part: str, tensors: Tensors) -> Tensors:
    return {f"{part}/{name}": tensor for name, tensor in tensors.items()}


def _without_prefix(part: str, tensors: Tensors) -> Tensors:
    return {
        name.removeprefix(f"{part}/"): tensor
        for name, tensor in tensors.items()
        if name.startswith(f"{part}/")
    }


def _index(number: str) -> int:
    if not number.isdecimal():
        raise ValueError(f"optimizer/{number} is not the number of a parameter")
    return int(number)


@torch.no_grad()
def _copy_into(old: Tensors, new: Tensors) -> None:
    if old.keys() != new.keys():
        raise ValueError(f"tensor {min(old.keys() ^ new.keys())} is not in both")
    for name, tensor in old.items():
        if (tensor.shape, tensor.dtype) != (new[name].shape, new[name].dtype):
            raise ValueError(
                f"{name} is {new[name].dtype}{list(new[name].shape)}, the network's "
                f"{tensor.dtype}{list(tensor.shape)}"
            )
        tensor.copy_(new[name])
