"""Run a frozen tower with eager PyTorch, torch.compile or OpenVINO.

Only this module chooses the backend. `auto` is the fastest that is installed and starts
at once: OpenVINO on a CPU, else eager. The first batches of any backend are compared
with eager fp32, and a tower that differs too much falls back to eager fp32.

Sources: PyTorch's inductor freezing, https://pytorch.org/docs; OpenVINO's performance
hints and asynchronous inference, https://docs.openvino.ai.
"""

import importlib.util
import logging
import sys
import tempfile
import threading
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from embed.config import Backend
from embed.errors import ConfigError

logger = logging.getLogger(__name__)

Batch = tuple[NDArray[Any], ...]
Runner = Callable[[Sequence[Batch]], list[NDArray[np.float32]]]

MIN_COSINE = 0.998
"""Least cosine similarity with eager fp32, over the rows of the first batches."""

_GUARDED_BATCHES, _GUARDED_PRODUCTS = 2, 16  # at least, if there are so many
_NO_WORK = ("Const", "Parameter", "Result")  # types of OpenVINO's layers
# A process has one random state and one list of warning filters, so that towers load
# and start one at a time.
_START = threading.Lock()


class Tower(nn.Module, ABC):
    """A frozen network that maps a batch to features, float32 (batch, dim).

    All its parameters are in submodules.
    """

    exact_part: str | None = None
    """Last submodule that computes in float32 at any precision, like all before it."""

    @abstractmethod
    def example_inputs(self) -> tuple[torch.Tensor, ...]:
        """Return example inputs for tracing."""


@dataclass(frozen=True, kw_only=True)
class BatchSizes:
    """Sizes of the batches for a backend."""

    tokens: int
    """Texts times their padded length."""

    images: int


def resolve_backend(asked: Backend, device: torch.device) -> Backend:
    """Replace `auto` by a backend, and check that the backend can run.

    Raises
    ------
    ConfigError
        If `asked` is OpenVINO and it is not installed or the device is not a CPU.
    """
    on_cpu = device.type == "cpu"
    installed = importlib.util.find_spec("openvino") is not None
    if asked == "auto":
        return "openvino" if on_cpu and installed else "eager"
    if asked == "openvino" and not on_cpu:
        raise ConfigError(
            f"--backend openvino runs on a CPU, found {device.type}. Leave it out."
        )
    if asked == "openvino" and not installed:
        raise ConfigError(
            "--backend openvino: the package openvino is not installed. Run `pip "
            "install openvino`, or leave --backend out."
        )
    return asked


def batch_sizes(backend: Backend, device: torch.device) -> BatchSizes:
    """Return one product for each batch on a CPU, many on a GPU.

    The last bits of a feature can depend on the shape of the batch: on a CPU, photos
    in batches of 3 and of 16 differ with eager PyTorch. A product alone always has the
    same features, and OpenVINO is as fast on photos and on long texts.
    """
    del backend
    if device.type == "cuda":
        return BatchSizes(tokens=65_536, images=256)
    return BatchSizes(tokens=1, images=1)


class Plan(NamedTuple):
    """A backend and a number format."""

    backend: Backend
    dtype: torch.dtype

    def __str__(self) -> str:
        """Return backend and format as the manifest records them."""
        return f"{self.backend} {'bf16' if self.dtype is torch.bfloat16 else 'fp32'}"


_EXACT = Plan("eager", torch.float32)


def plans_of(backend: Backend, dtype: torch.dtype) -> list[Plan]:
    """Return what a tower is tried with, in this order."""
    plans = (Plan(backend, dtype), Plan(backend, torch.float32), Plan("eager", dtype))
    return [*dict.fromkeys((*plans, _EXACT))]


class FrozenTower:
    """A frozen network that runs on a backend.

    Parameters
    ----------
    load : callable
        Function that returns a `Tower` in float32. It is called now and again for the
        comparison.
    name : str
        Name of the tower in messages.
    backend : {"eager", "compile", "openvino"}
    dtype : torch.dtype
        bfloat16 or float32.
    device : torch.device
    found : str, optional
        Backend and format that a stopped run used, so that it continues with them.
    """

    def __init__(
        self,
        load: Callable[[], Tower],
        *,
        name: str,
        backend: Backend,
        dtype: torch.dtype,
        device: torch.device,
        found: str | None = None,
    ) -> None:
        self.name, self.device = name, device
        self._load, self._plan = load, Plan(backend, dtype)
        with _START:
            self._network: Tower | None = load()
        self._runner: Runner | None = None
        self.used = found
        """Backend and number format; None before the first batch."""

    def __call__(self, batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        """Return the features of each batch, in order."""
        if not batches:
            return []
        if self._runner is None:
            with _START:
                if self._runner is None:
                    self._runner = self._start(_first_batches(batches))
                    del self._load  # frees the weights, which the runner now holds
        return self._runner(batches)

    def _start(self, first: Sequence[Batch]) -> Runner:
        """Start the first plan that runs and is exact enough; eager fp32 always is."""
        for plan in plans_of(*self._plan):
            if self.used not in (None, str(plan)):
                continue  # this plan was rejected before the run was stopped
            if plan == _EXACT:
                break
            runner, problem = self._try(plan, first)
            if runner is not None and not problem:
                self.used = str(plan)
                return runner
            logger.warning(
                "%s encoder: %s %s, so it is not used.", self.name, plan, problem
            )
            self.used = None
        self.used = str(_EXACT)
        return self._runner_of(_EXACT)

    def _runner_of(self, plan: Plan) -> Runner:
        network, self._network = self._network or self._load(), None
        start = {"eager": _eager, "compile": _compiled, "openvino": _openvino}
        return start[plan.backend](network, plan.dtype, self.device)

    def _try(self, plan: Plan, first: Sequence[Batch]) -> tuple[Runner | None, str]:
        try:
            runner = self._runner_of(plan)
            features = np.concatenate(runner(first))  # torch.compile compiles here
        except Exception as error:  # no compiler, an operator that is not supported
            reason = str(error).strip().partition("\n")[0]
            return None, f"does not run ({type(error).__name__}: {reason})"
        if self.used is not None:  # compared before the run was stopped
            return runner, ""
        expected = np.concatenate(self._runner_of(_EXACT)(first))
        cosine = float(_cosines(features, expected).min())
        if cosine < MIN_COSINE:
            return runner, f"has cosine {cosine:.4f} with fp32, below {MIN_COSINE}"
        return runner, ""


def _first_batches(batches: Sequence[Batch]) -> Sequence[Batch]:
    """Return the batches that a backend is compared on."""
    n_products = 0
    for n_batches, batch in enumerate(batches, 1):
        n_products += len(batch[0])
        if n_batches >= _GUARDED_BATCHES and n_products >= _GUARDED_PRODUCTS:
            return batches[:n_batches]
    return batches


def _cosines(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the cosine of each row of `a` with that of `b`; 1 if both are zero."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    lengths = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    both_zero = ~a.any(axis=1) & ~b.any(axis=1)
    products = (a64 * b64).sum(axis=1)
    return np.where(both_zero, 1.0, products / np.maximum(lengths, 1e-30))


def _placed(network: Tower, dtype: torch.dtype, device: torch.device) -> Tower:
    for name, part in network.named_children():
        part.to(device, torch.float32 if name == network.exact_part else dtype)
    return network.to(memory_format=torch.channels_last)


def _apply(
    network: Callable[..., torch.Tensor], batches: Sequence[Batch], device: torch.device
) -> list[NDArray[np.float32]]:
    return [
        network(*(torch.from_numpy(array).to(device) for array in batch)).cpu().numpy()
        for batch in batches
    ]


def _eager(network: Tower, dtype: torch.dtype, device: torch.device) -> Runner:
    network = _placed(network, dtype, device)

    @torch.inference_mode()
    def run(batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        return _apply(network, batches, device)

    return run


def _compiled(network: Tower, dtype: torch.dtype, device: torch.device) -> Runner:
    network = _placed(network, dtype, device)
    from torch._inductor import config as inductor

    compiled = torch.compile(network, dynamic=True)

    @torch.no_grad()  # inductor does not freeze under inference_mode
    def run(batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        with inductor.patch(freezing=True):
            return _apply(compiled, batches, device)

    return run


def _openvino(network: Tower, dtype: torch.dtype, device: torch.device) -> Runner:
    core, n_threads = _openvino_core(), torch.get_num_threads()
    compiled = core.compile_model(
        _openvino_model(network, dtype),
        "CPU",
        {
            "INFERENCE_PRECISION_HINT": "bf16" if dtype is torch.bfloat16 else "f32",
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": str(n_threads),
            "INFERENCE_NUM_THREADS": str(n_threads),
            # With pinning, the first stream of every tower would use the first core.
            "ENABLE_CPU_PINNING": "NO",
        },
    )

    # AsyncInferQueue can deadlock: its callback takes Python's lock in OpenVINO's
    # threads, and a model that is deleted soon after joins them while holding the lock.
    def run(batches: Sequence[Batch]) -> list[NDArray[np.float32]]:
        # More requests than streams keep all streams busy while a result is fetched.
        n_requests = min(2 * n_threads, len(batches))
        requests = [compiled.create_infer_request() for _ in range(n_requests)]
        features = []
        for step in range(len(batches) + n_requests):
            request = requests[step % n_requests]
            if step >= n_requests:
                request.wait()
                features.append(request.get_output_tensor(0).data.copy())
            if step < len(batches):
                request.start_async(dict(enumerate(batches[step])))
        return features

    return run


def _openvino_model(network: Tower, dtype: torch.dtype) -> Any:
    """Convert a tower; its exact part is marked if `dtype` is not float32."""
    import openvino

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch.jit.trace warns
        example = network.example_inputs()
        traced = torch.jit.trace(network, example, check_trace=False)
        model = openvino.convert_model(traced, example_input=example)
    if network.exact_part is not None and dtype is not torch.float32:
        model = _keep_float32(model, network.exact_part)
    return model


@cache
def _openvino_core() -> Any:
    """Return the only core of this process; it lives until the process ends."""
    # OpenVINO's telemetry reports every conversion over the network if it can be
    # imported.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    # The CPU plugin of a core gives its thread a stack for signals. If of two cores the
    # first is deleted first, deleting the second puts the freed stack of the first
    # back, and the next Ctrl-C is a segmentation fault (OpenVINO 2026.4).
    return openvino.Core()


def _keep_float32(model: Any, until: str) -> Any:
    """Mark an OpenVINO model's operations up to the last one of a submodule.

    OpenVINO computes marked operations in full precision. From Python, the mark can
    only be set in a serialised model.
    """
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.xml")
        openvino.serialize(model, path)
        tree = ElementTree.fromstring(path.read_text(encoding="utf-8"))  # noqa: S314
        weights = np.fromfile(path.with_suffix(".bin"), np.uint8)
    layers = [
        layer for layer in tree.iter("layer") if layer.get("type") not in _NO_WORK
    ]
    is_ours = [f"__module.{until}." in layer.get("name", "") for layer in layers]
    if not any(is_ours):
        raise ValueError(f"its model has no operation of the submodule {until}")
    for layer in layers[: len(layers) - is_ours[::-1].index(True)]:
        info = layer.find("rt_info")
        if info is None:
            info = ElementTree.Element("rt_info")
            layer.insert(1 if layer.find("data") is not None else 0, info)
        ElementTree.SubElement(info, "attribute", {"name": "precise", "version": "0"})
    text = ElementTree.tostring(tree, encoding="unicode")
    return _openvino_core().read_model(text, openvino.Tensor(weights))
