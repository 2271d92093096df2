"""Photos under odd names, links, and things in their place that are no file."""

import os
import socket
import unicodedata
from pathlib import Path

from bad_kinds import LEADS_OUT, NO_FILE, NOT_LISTED, Kind, a_file, right
from photo_bytes import PIXELS, jpeg, saved


def named(name: str, link: str = "") -> Kind:
    """Keep a photo under a name of its own, linked to as `link`."""

    def make(folder: Path, _: str) -> str:
        (folder / name).write_bytes(saved("PNG"))
        return link or name

    return Kind(make=make, pixels=PIXELS)


def beside(link: str, reason: str = NOT_LISTED) -> Kind:
    """Keep a photo beside the images folder; OUTSIDE in the link is its path."""

    def make(folder: Path, _: str) -> str:
        outside = folder.parent / "secret.png"
        outside.write_bytes(saved("PNG"))
        return link.replace("OUTSIDE", str(outside))

    return Kind(make=make, reason=reason)


def link_to(target: str, **expected: object) -> Kind:
    """Put a symbolic link in place of the photo."""

    def make(folder: Path, name: str) -> None:
        (folder.parent / "secret.png").write_bytes(saved("PNG"))
        (folder / "inside").mkdir(exist_ok=True)
        (folder / "inside" / "target of a link").write_bytes(saved("PNG"))
        (folder / name).symlink_to(target.replace("OUTSIDE", str(folder.parent)))

    return Kind(make=make, **expected)  # type: ignore[arg-type]


def socket_file(folder: Path, name: str) -> None:
    # The path of a socket is at most 107 bytes long.
    here = Path.cwd()
    os.chdir(folder)
    try:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind(name)
    finally:
        os.chdir(here)


def forbidden(folder: Path, name: str) -> None:
    (folder / name).write_bytes(saved("PNG"))
    (folder / name).chmod(0)


def replaced_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replaced_by_link(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parents[1] / "secret.png")


def in_linked_folder(folder: Path, name: str) -> None:
    outside = folder.parent / "outside"
    outside.mkdir()
    (outside / name).write_bytes(saved("PNG"))
    (folder / "linked folder").symlink_to(outside)


def hard_link(folder: Path, name: str) -> None:
    (folder / "first name of it").write_bytes(saved("PNG"))
    (folder / name).hardlink_to(folder / "first name of it")


COMPOSED = unicodedata.normalize("NFC", "caf\u00e9")
DECOMPOSED = unicodedata.normalize("NFD", "caf\u00e9")

NAMES = {
    "name-with-spaces": named("a b  c.png"),
    "name-with-escaped-spaces": named("d e.png", "https://example.com/d%20e.png"),
    "name-not-ascii": named(f"{COMPOSED} 1.png"),
    "name-not-ascii-escaped": named(f"{COMPOSED} 2.png", "i/caf%C3%A9%202.png"),
    "name-decomposed-on-disk": named(f"{DECOMPOSED} 3.png", f"{COMPOSED} 3.png"),
    "name-decomposed-in-the-link": named(f"{COMPOSED} 4.png", f"{DECOMPOSED} 4.png"),
    "name-chinese": named("\u7167\u7247.jpg"),
    "name-emoji": named("\U0001f34e.png"),
    "name-right-to-left": named("\u202egnp.\u05d0.png"),
    "name-with-quotes-and-commas": named("\"a\", 'b'; c.png"),
    "name-with-a-dash-first": named("--help.png"),
    "name-with-a-percent-sign": named("100%.png"),
    "name-of-255-bytes": named("n" * 251 + ".png"),
    "name-of-9000-characters": Kind(
        make=lambda folder, name: "n" * 9000 + ".png", reason=NOT_LISTED
    ),
    "name-without-extension": named("no-extension"),
    "name-in-upper-case": named("UPPER.PNG"),
    "name-hidden": named(".hidden.png"),
    "name-with-a-query": named("q.png", "https://example.com/q.png?w=9&u=/x.jpg#f"),
    "wrong-extension-png-as-jpg": right(lambda: saved("PNG"), suffix=".jpg"),
    "wrong-extension-jpg-as-png": right(jpeg, tolerance=4, suffix=".png"),
    "wrong-extension-webp-as-gif": right(
        lambda: saved("WEBP", lossless=True), suffix=".gif"
    ),
    "wrong-extension-png-as-txt": right(lambda: saved("PNG"), suffix=".txt"),
}

PLACES = {
    "folder": Kind(
        make=lambda folder, name: (folder / name).mkdir(), reason="a folder, not a file"
    ),
    "pipe": Kind(
        make=lambda folder, name: os.mkfifo(folder / name), reason="not a regular file"
    ),
    "socket": Kind(make=socket_file, reason="not a regular file"),
    "no-permission": Kind(make=forbidden, reason="cannot be opened: Permission denied"),
    "missing": Kind(make=lambda folder, name: None, reason=NOT_LISTED),
    "hard-link": Kind(make=hard_link, pixels=PIXELS),
    "link-inside": link_to("inside/target of a link", pixels=PIXELS),
    "link-to-a-missing-file": link_to("nowhere", reason=NO_FILE),
    "link-to-itself": link_to(
        "link-to-itself.jpg",
        reason="cannot be opened: Too many levels of symbolic links",
    ),
    "link-out": link_to("OUTSIDE/secret.png", reason=LEADS_OUT),
    "link-out-relative": link_to("../secret.png", reason=LEADS_OUT),
    "link-out-by-way-of-a-link": link_to("link-out.jpg", reason=LEADS_OUT),
    "link-to-endless-zeros": link_to("/dev/zero", reason=LEADS_OUT),
    "link-to-a-folder-inside": link_to("inside", reason="a folder, not a file"),
    "link-to-a-folder-outside": link_to("OUTSIDE", reason=LEADS_OUT),
    "link-to-the-images-folder": link_to(".", reason="a folder, not a file"),
    "in-a-linked-folder": Kind(make=in_linked_folder, reason=NOT_LISTED),
    "path-upwards": beside("../secret.png"),
    "path-upwards-escaped": beside("https://example.com/..%2Fsecret.png"),
    "path-absolute": beside("OUTSIDE"),
    "path-as-file-url": beside("file://OUTSIDE"),
    "path-of-a-system-file": beside("/etc/passwd"),
    "path-of-the-folder-itself": beside("images/."),
    "vanished-after-listing": Kind(
        make=a_file(lambda: saved("PNG")), reason=NO_FILE, after_listing=Path.unlink
    ),
    "pipe-after-listing": Kind(
        make=a_file(lambda: saved("PNG")),
        reason="not a regular file",
        after_listing=replaced_by_pipe,
    ),
    "link-out-after-listing": Kind(
        make=a_file(lambda: saved("PNG")),
        reason=LEADS_OUT,
        after_listing=replaced_by_link,
    ),
}
