"""Commands in a process of their own, which needs no imports any more."""

import os
import signal
from dataclasses import dataclass
from multiprocessing.context import BaseContext
from pathlib import Path
from tempfile import TemporaryDirectory

from stack.cli import main


@dataclass(frozen=True, kw_only=True)
class Ended:
    """What a command left behind on the terminal."""

    returncode: int
    stdout: str
    stderr: str


def run_command(
    processes: BaseContext, *arguments: object, ctrl_c_at: str | None = None
) -> Ended:
    """Run `pricestack ARGUMENTS`; press Ctrl-C once a file of a name is in place."""
    with TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("stdout", "stderr")]
        process = processes.Process(
            target=_run, args=(paths, list(map(str, arguments)), ctrl_c_at)
        )
        process.start()
        process.join()
        out, err = (path.read_text(encoding="utf-8") for path in paths)
    assert process.exitcode is not None
    return Ended(returncode=process.exitcode, stdout=out, stderr=err)


def _run(paths: list[Path], arguments: list[str], ctrl_c_at: str | None) -> None:
    for stream, path in enumerate(paths, start=1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), stream)
    if ctrl_c_at:
        _press_ctrl_c(ctrl_c_at)
    main(arguments)


def _press_ctrl_c(name: str) -> None:
    """Interrupt this process, in time on any machine, when a file has been written."""
    replace, pressed = os.replace, False

    def replace_and_press(source: Path, target: Path) -> None:
        nonlocal pressed
        replace(source, target)
        if Path(target).name == name and not pressed:
            pressed = True
            signal.raise_signal(signal.SIGINT)

    os.replace = replace_and_press
