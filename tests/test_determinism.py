"""The same command gives the same bytes; other numbers of threads, the same score."""

import dataclasses
import shutil

import numpy as np
import pytest
from conftest import (
    TINY_STACK,
    TINY_TRAINING,
    small_config,
    small_image_backbone,
    use_photo_tower,
)
from stages import STAGES, contents, run_stage

from embed.catalog.reader import read_catalog
from embed.extract import extract
from embed.machine import prepare_machine
from embed.records import EmbedManifest
from embed.sample.law import write_sample
from finetune.out_of_fold import finetune
from finetune.score import smape, to_price
from stack.fit import fit_stack

SMAPE_BETWEEN_THREAD_COUNTS = 0.05


def run_all(run_dir, catalog, encoder, n_threads):
    """Run all stages with so many threads, in a process that has not computed yet."""
    prepare_machine(n_threads)
    with pytest.MonkeyPatch.context() as patch:
        use_photo_tower(patch, small_image_backbone)
        config = dataclasses.replace(small_config(encoder), n_threads=n_threads)
        images_dir = catalog.parent / "images"
        extract(read_catalog(catalog), run_dir, images_dir=images_dir, config=config)
        training = dataclasses.replace(
            TINY_TRAINING, adam_epsilon=1e-5, n_threads=n_threads
        )
        finetune(run_dir, config=training)
        fit_stack(run_dir, config=dataclasses.replace(TINY_STACK, n_threads=n_threads))


def in_process(processes, target, *arguments):
    process = processes.Process(target=target, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0


@pytest.mark.slow
def test_two_processes_with_the_same_command_write_the_same_bytes(
    processes, sample_catalog, tiny_encoder, tmp_path, tally
):
    for name in ("first", "second"):
        for stage in STAGES:
            run_dir = tmp_path / name
            given = (stage, run_dir, sample_catalog, tiny_encoder)
            in_process(processes, run_stage, *given)
    first, second = (contents(tmp_path / name) for name in ("first", "second"))
    assert sorted(first) == sorted(second)
    assert [name for name in first if first[name] != second[name]] == []
    tally("files that were the same, byte for byte, in a second run", len(first))


@pytest.mark.parametrize("n_workers", [1, 2, 5])
def test_the_number_of_workers_changes_no_byte(
    sample_catalog, tiny_encoder, tmp_path, n_workers
):
    found = []
    for workers in (1, n_workers):
        run_dir = tmp_path / f"{workers}-{len(found)}"
        config = dataclasses.replace(small_config(tiny_encoder), n_workers=workers)
        images_dir = sample_catalog.parent / "images"
        catalog = read_catalog(sample_catalog)
        extract(catalog, run_dir, images_dir=images_dir, config=config)
        found.append(contents(run_dir / "embed"))
    one, other = found
    del one["manifest.json"], other["manifest.json"]  # it names the workers
    assert one == other


@pytest.mark.slow
def test_the_number_of_threads_hardly_changes_the_score(
    processes, tiny_encoder, tmp_path, tally
):
    catalog = write_sample(tmp_path / "sample", n_products=600)
    for n_threads in (1, 2):
        run_dir = tmp_path / f"run-{n_threads}"
        in_process(processes, run_all, run_dir, catalog, tiny_encoder, n_threads)
    for name in ("finetune/oof_log_price.npy", "stack/oof_log_price.npy"):
        price = np.load(tmp_path / "run-1" / "finetune" / "price.npy")
        one, two = (
            smape(price, to_price(np.load(tmp_path / f"run-{n}" / name)))
            for n in (1, 2)
        )
        assert abs(one - two) <= SMAPE_BETWEEN_THREAD_COUNTS
        tally("scores within 0.05 for 1 and 2 threads")


def test_a_run_made_with_other_threads_is_up_to_date(
    embedded_run, sample_catalog, tiny_config, tmp_path
):
    run_dir = shutil.copytree(embedded_run, tmp_path / "run")
    before = (run_dir / "embed" / "manifest.json").read_text()
    config = dataclasses.replace(tiny_config, n_threads=2, n_workers=3)
    manifest = extract(
        read_catalog(sample_catalog),
        run_dir,
        images_dir=sample_catalog.parent / "images",
        config=config,
    )
    assert manifest == EmbedManifest.model_validate_json(before)
