import gc
import importlib.util
import logging
import signal
import sys
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn

from embed.encoders import backends
from embed.encoders.backends import FrozenTower, Tower, batch_sizes, resolve_backend
from embed.errors import ConfigError
from embed.machine import has_bf16

CPU = torch.device("cpu")
CUDA = torch.device("cuda")
needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None,
    reason="the package openvino (an extra) is not installed",
)


class Mixer(Tower):
    """A small tower on bytes, with convolutions as an image tower has them."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.layers = nn.Sequential(
                nn.Conv2d(3, 16, 3), nn.SiLU(), nn.Conv2d(16, 24, 3)
            )
        self.eval()

    def forward(self, pixels):
        dtype = next(self.layers.parameters()).dtype
        maps = self.layers((pixels.permute(0, 3, 1, 2) / 255).to(dtype))
        return maps.float().mean((2, 3))

    def example_inputs(self):
        return (torch.zeros(2, 8, 8, 3, dtype=torch.uint8),)


@pytest.fixture
def photos():
    rng = np.random.default_rng(0)
    return [
        (rng.integers(256, size=(n, 8, 8, 3), dtype=np.uint8),) for n in (4, 4, 3, 1)
    ]


@pytest.fixture
def exact(photos):
    with torch.no_grad():
        return [Mixer()(torch.from_numpy(pixels)).numpy() for (pixels,) in photos]


def frozen(backend="eager", dtype=torch.float32, load=Mixer, found=None):
    return FrozenTower(
        load, name="image", backend=backend, dtype=dtype, device=CPU, found=found
    )


def test_auto_takes_openvino_on_a_cpu_that_has_it_and_never_on_a_gpu(monkeypatch):
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda _: object())
    assert resolve_backend("auto", CPU) == "openvino"
    assert resolve_backend("auto", CUDA) == "eager"
    with pytest.raises(ConfigError, match="runs on a CPU, found cuda"):
        resolve_backend("openvino", CUDA)
    monkeypatch.setattr(backends.importlib.util, "find_spec", lambda _: None)
    assert resolve_backend("auto", CPU) == "eager"
    assert resolve_backend("compile", CPU) == "compile"
    with pytest.raises(ConfigError, match="pip install openvino"):
        resolve_backend("openvino", CPU)


def test_a_gpu_gets_larger_batches_than_a_cpu():
    for backend in ("eager", "compile", "openvino"):
        on_cpu, on_gpu = batch_sizes(backend, CPU), batch_sizes(backend, CUDA)
        assert on_gpu.tokens > on_cpu.tokens
        assert on_gpu.images > on_cpu.images


def test_fp32_eager_is_the_network_itself(photos, exact):
    tower = frozen()
    assert tower.used is None
    for found, expected in zip(tower(photos), exact, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    assert tower.used == "eager fp32"
    assert tower([]) == []


@pytest.mark.skipif(not has_bf16(CPU), reason="this processor has no bf16 arithmetic")
def test_bf16_passes_the_comparison_and_is_recorded(photos, exact):
    tower = frozen(dtype=torch.bfloat16)
    found = np.concatenate(tower(photos))
    assert tower.used == "eager bf16"
    np.testing.assert_allclose(found, np.concatenate(exact), atol=0.02)
    assert not np.array_equal(found, np.concatenate(exact))


@needs_openvino
def test_openvino_gives_each_batch_its_own_features_in_order(photos, exact):
    tower = frozen("openvino")
    many = photos * 10
    for found, expected in zip(tower(many), exact * 10, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-4)
    assert tower.used == "openvino fp32"
    assert sys.modules["openvino_telemetry"] is None


@pytest.mark.slow
def test_compiled_features_are_those_of_eager(photos, exact):
    tower = frozen("compile")
    for found, expected in zip(tower(photos), exact, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert tower.used == "compile fp32"


class Inexact(Mixer):
    """Right in float32 and wrong in bf16, as a processor's fast path may be."""

    def forward(self, pixels):
        features = super().forward(pixels)
        wrong = next(self.layers.parameters()).dtype is torch.bfloat16
        return features.flip(1) if wrong else features


def test_a_tower_that_is_not_exact_enough_falls_back_and_says_so(photos, exact, caplog):
    with caplog.at_level(logging.WARNING):
        tower = frozen(dtype=torch.bfloat16, load=Inexact)
        found = tower(photos)
    assert tower.used == "eager fp32"
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(exact), atol=1e-6)
    assert "image encoder: eager bf16 has cosine" in caplog.text


@needs_openvino
def test_a_backend_that_is_exact_in_fp32_falls_back_to_that(photos, exact, monkeypatch):
    runner = backends._openvino

    def wrong_in_bf16(network, dtype, device):
        run = runner(network, torch.float32, device)
        if dtype is torch.float32:
            return run
        return lambda batches: [found[:, ::-1].copy() for found in run(batches)]

    monkeypatch.setattr(backends, "_openvino", wrong_in_bf16)
    tower = frozen("openvino", torch.bfloat16)
    found = tower(photos)
    assert tower.used == "openvino fp32"
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(exact), atol=1e-4)


def test_a_backend_that_does_not_run_falls_back_to_eager(
    monkeypatch, photos, exact, caplog
):
    def broken(*_):
        raise RuntimeError("no C++ compiler\nlong story")

    monkeypatch.setattr(backends, "_compiled", broken)
    with caplog.at_level(logging.WARNING):
        tower = frozen("compile")
        found = tower(photos)
    assert tower.used == "eager fp32"
    np.testing.assert_allclose(np.concatenate(found), np.concatenate(exact), atol=1e-6)
    assert "compile fp32 does not run (RuntimeError: no C++ compiler)" in caplog.text
    assert "long story" not in caplog.text


def test_a_run_that_goes_on_keeps_what_its_beginning_was_computed_with(photos):
    # The batches that it goes on with would not tell the two apart.
    blank = [(np.zeros((2, 8, 8, 3), dtype=np.uint8),)]
    refused = frozen(dtype=torch.bfloat16, load=Inexact, found="eager fp32")
    refused(blank)
    assert refused.used == "eager fp32"
    taken = frozen(dtype=torch.bfloat16, load=Inexact, found="eager bf16")
    found = np.concatenate(taken(photos))
    assert taken.used == "eager bf16"
    fresh = frozen(dtype=torch.bfloat16)
    np.testing.assert_array_equal(found, np.concatenate(fresh(photos))[:, ::-1])


def test_a_wrong_weights_file_is_refused_at_once_and_not_fallen_back_from():
    def load():
        raise ValueError("not an encoder")

    with pytest.raises(ValueError, match="not an encoder"):
        frozen(load=load)


@needs_openvino
@pytest.mark.filterwarnings("error")
def test_towers_may_be_started_by_several_threads_at_once(photos, exact):
    towers = [frozen("openvino") for _ in range(4)]
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as pool:
        every = list(pool.map(lambda tower: tower(photos), towers))
    for found in every:
        np.testing.assert_allclose(
            np.concatenate(found), np.concatenate(exact), atol=1e-4
        )
    assert warnings.filters == before
    assert {tower.used for tower in towers} == {"openvino fp32"}


def test_towers_are_loaded_one_at_a_time(photos):
    loading, overlap = threading.Lock(), threading.Event()

    def load():
        if loading.acquire(blocking=False):
            overlap.wait(0.02)  # another thread's turn, if it does not wait itself
            loading.release()
        else:
            overlap.set()
        return Mixer()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: frozen(load=load)(photos), range(4)))
    assert not overlap.is_set()


def interrupt_after_towers():
    """Start two towers, forget them in that order, and press Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    towers = [frozen("openvino") for _ in range(2)]
    for tower in towers:
        tower([(np.zeros((1, 8, 8, 3), np.uint8),)])
    assert {tower.used for tower in towers} == {"openvino fp32"}
    del tower
    while towers:
        del towers[0]
        gc.collect()
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


@needs_openvino
def test_ctrl_c_is_no_segmentation_fault_after_towers_are_gone(processes):
    process = processes.Process(target=interrupt_after_towers)
    process.start()
    process.join()
    assert process.exitcode == 0


class Shifted(Tower):
    """Adds 256, and takes it away: bfloat16 knows neither 257 nor 1 + 1 / 512."""

    def __init__(self, exact_part):
        super().__init__()
        self.start = nn.Sequential(nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Conv2d(3, 3, 1))
        self.rest = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            for conv in (self.start[0], self.start[2], self.rest):
                conv.weight.copy_(torch.eye(3)[:, :, None, None])
                conv.bias.zero_()
            self.start[0].weight *= 1 + 2**-9
            self.start[0].bias.fill_(256)
            self.start[2].bias.fill_(-256)
        self.exact_part = exact_part
        self.eval()

    def forward(self, pixels):
        maps = pixels.permute(0, 3, 1, 2).to(next(self.start.parameters()).dtype)
        maps = self.start(maps).to(self.rest.weight.dtype)
        return self.rest(maps).float().mean((2, 3))

    def example_inputs(self):
        return (torch.zeros(2, 8, 8, 3, dtype=torch.uint8),)


@pytest.mark.skipif(not has_bf16(CPU), reason="the processor has no bfloat16")
@pytest.mark.parametrize(
    "backend", ["eager", pytest.param("openvino", marks=needs_openvino)]
)
def test_the_exact_part_of_a_tower_computes_in_float32(backend, monkeypatch):
    monkeypatch.setattr(backends, "MIN_COSINE", 0)  # the other one is too inexact
    pixels = np.zeros((2, 8, 8, 3), np.uint8)
    pixels[0], pixels[1] = 1, (3, 5, 128)
    expected = pixels[:, 0, 0] * (1 + 2**-9)
    found = {}
    for part in ("start", None):
        tower = frozen(backend, torch.bfloat16, load=lambda part=part: Shifted(part))
        (found[part],) = tower([(pixels,)])
        assert tower.used == f"{backend} bf16"
    # What leaves the exact part is rounded once, to one of 256 steps of a power of two.
    np.testing.assert_allclose(found["start"], expected, rtol=2**-9)
    assert np.abs(found[None] / expected - 1).max() > 0.1
