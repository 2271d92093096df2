"""`pricestack images`: download the photos that a catalog links to into a folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from embed.download.config import DownloadConfig
from embed.photos.files import list_notes
from embed.terminal.catalog_options import (
    catalog_option,
    catalog_options,
    read_and_mention,
    take_columns,
)
from embed.terminal.options import one_line_errors

if TYPE_CHECKING:
    from embed.download.job import DownloadReport

_N_KINDS_SHOWN = 5


@click.command("images")
@catalog_option
@click.option(
    "--out",
    "out_dir",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder for the photos and downloads.csv.",
)
@catalog_options
@click.option(
    "--concurrency",
    default=DownloadConfig.concurrency,
    show_default=True,
    help="Requests at the same time.",
)
@click.option(
    "--per-host",
    default=DownloadConfig.per_host,
    show_default=True,
    help="Requests at the same time to one host.",
)
@click.option(
    "--retries",
    default=DownloadConfig.retries,
    show_default=True,
    help="Number of further requests for a link after a failure that may be temporary.",
)
@click.option(
    "--timeout",
    "deadline",
    default=DownloadConfig.deadline,
    show_default=True,
    help="Seconds for one request, redirects included.",
)
@click.option(
    "--allow-private",
    is_flag=True,
    help="Also connect to private and loopback addresses; only for links you trust.",
)
@one_line_errors
def images_command(
    catalog_path: Path,
    out_dir: Path,
    **settings: Any,
) -> None:
    """Download the photos that a catalog links to.

    A second run requests only missing photos. OUT/downloads.csv lists each row with
    its outcome and the reason. Photos that cannot be downloaded are not an error.

    \b
    Example:
      pricestack images catalog.csv --out photos
    """
    columns = take_columns(settings)
    config = DownloadConfig(**settings)
    catalog = read_and_mention(catalog_path, columns)
    from embed.download.job import download_images

    for note in list_notes(catalog):
        click.echo(note, err=True)
    click.echo(_summary(download_images(catalog, out_dir, config=config), out_dir))


def _summary(report: "DownloadReport", out_dir: Path) -> str:
    n_photos = report.n_downloaded + report.n_kept
    lines = [
        f"{n_photos} products have their photo in {out_dir}: {report.n_downloaded} "
        f"downloaded, {report.n_kept} were there."
    ]
    n_missing = sum(report.missing.values())
    if n_missing or report.n_without_link:
        kinds = [f"{n} {kind}" for kind, n in report.missing.items()]
        more = len(kinds) - _N_KINDS_SHOWN
        shown = kinds[:_N_KINDS_SHOWN] + [f"{more} more kinds"] * (more > 0)
        if report.n_without_link:
            shown.append(f"{report.n_without_link} without a link")
        lines.append(
            f"{n_missing + report.n_without_link} have not: {', '.join(shown)}. The "
            f"reasons are in {out_dir / 'downloads.csv'}; run again to try again."
        )
    return "\n".join(lines)
