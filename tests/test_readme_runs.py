"""The README's commands, run as they stand on a small catalog."""

import csv
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = ("Your own data", "With a finished run")
LINES = [
    line
    for section in SECTIONS
    for block in re.findall(
        r"```bash\n(.*?)```",
        README.split(f"\n## {section}\n")[1].split("\n## ")[0],
        re.DOTALL,
    )
    for line in block.replace("\\\n", " ").splitlines()
]
# Variables of a `make test` that this runs in are not for the commands.
ENVIRONMENT = {k: v for k, v in os.environ.items() if k not in ("MAKEFLAGS", "ARGS")}
# Small networks, so that it takes a minute and not an hour; what is not said here is
# as in the README.
SMALL = {
    "embeddings": "--text-encoder {encoder} --image-encoder no-such --random-weights "
    "--image-size 32 --precision fp32 --backend eager",
    "finetune": "--image-size 32 --max-tokens 24 --smooth-l1-epochs 1 "
    "--smape-epochs 1 --precision fp32",
}


@pytest.mark.slow
def test_the_commands_do_what_they_say(small_catalog, tiny_encoder, tmp_path):
    with small_catalog.open(newline="") as file:
        first = next(csv.DictReader(file))["sample_id"]
    own = {
        "catalog.csv": str(small_catalog),
        "new.csv": str(small_catalog),
        "photos": str(small_catalog.parent / "images"),
        "runs": str(tmp_path / "runs"),
        "runs/mine": str(tmp_path / "runs" / "mine"),
        "ID": first,
    }
    for line in LINES:
        words = adapted(shlex.split(line), own, tmp_path)
        done = subprocess.run(
            [word.replace("{encoder}", str(tiny_encoder)) for word in words],
            cwd=ROOT,
            capture_output=True,
            text=True,
            env=ENVIRONMENT,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
        assert "Traceback" not in done.stderr
    with (tmp_path / "prices.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 24
    assert all(float(r["price_low"]) <= float(r["price_high"]) for r in rows)
    assert (tmp_path / "runs" / "mine" / "report.html").is_file()
    assert (tmp_path / "model" / "predict.py").is_file()


def adapted(words: list[str], own: dict[str, str], folder: Path) -> list[str]:
    """Put the test's names in place of the README's."""
    named = words[:2]  # the program and its command
    for word in words[2:]:
        name, equals, value = word.rpartition("=")
        found = own.get(value, value)
        named.append(name + equals + found)
    bin_dir = Path(sys.prefix, "bin")
    if named[0] != "make":
        program = bin_dir / Path(named[0]).name
        results = {"prices.csv", "model", "report.html"}
        return [
            str(program),
            *(str(folder / w) if w in results else w for w in named[1:]),
        ]
    target = next(word for word in named[1:] if "=" not in word)
    arguments = [f"ARGS={SMALL[target]}"] if target in SMALL else []
    venv = [f"VENV={sys.prefix}", f"--assume-old={sys.prefix}/installed"]
    return ["make", *venv, *named[1:], *arguments]
