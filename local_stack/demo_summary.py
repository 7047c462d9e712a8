"""The demo's last screen."""

from __future__ import annotations

import math
from typing import Any

from rich.console import Console
from rich.panel import Panel
from rich.table import Table

from local_stack.demo_checks import TOP_LABELS_SQL, Findings
from local_stack.environment import ROOT
from local_stack.seed import SOURCE_BUCKET

COLOURS = {"LABELLED": "green", "REJECTED": "yellow", "MISSING": "magenta", "FAILED": "red"}


def print_summary(console: Console, findings: Findings, *, seconds: float) -> None:
    """Outcomes, labels, bill, where everything lies, and whether the checks hold."""
    console.print()
    _outcomes(console, findings)
    _labels(console, findings)
    _bill(console, findings)
    folder = _short(findings.folder)
    console.print("[bold]Results[/] (a copy of the final bucket)")
    console.print(f"  labels, a JSON an image     {folder}/labels/")
    console.print(f"  Parquet for Athena, DuckDB  {folder}/results/image_labels/")
    console.print(f"  originals                   {folder}/images/")
    console.print(f"  what could not be labelled  {folder}/quarantine/")
    console.print("  run report                  .local/last-run.json\n")
    for line in findings.held:
        console.print(f"[green]✓[/] {line}")
    for line in findings.broken:
        console.print(f"[red]✗ {line}[/]")
    verdict = "[red]The demo FAILED" if findings.broken else "[green]All checks hold"
    console.print(f"\n[bold]{verdict}[/] after {seconds:.0f} s. Next: [bold]make up[/], the same stack to play with.\n")


def _outcomes(console: Console, findings: Findings) -> None:
    table = Table(title=f"{len(findings.uploads)} files uploaded", title_justify="left", title_style="bold")
    table.add_column("outcome")
    table.add_column("images", justify="right")
    table.add_column("why")
    for status, colour in COLOURS.items():
        why = "\n".join(_reason(key, message) for state, key, message in findings.reasons if state == status)
        table.add_row(f"[{colour}]{status}[/]", str(findings.statuses[status]), why)
    console.print(table)


def _labels(console: Console, findings: Findings) -> None:
    table = Table(title="Top labels", title_justify="left", title_style="bold")
    table.add_column("label")
    table.add_column("boxes", justify="right")
    table.add_column("mean confidence", justify="right")
    for name, images, confidence in findings.top_labels[:8]:
        table.add_row(name, str(images), f"{confidence:.1f} %")
    console.print(table)
    sql = TOP_LABELS_SQL.format(folder=_short(findings.folder))
    console.print(Panel(sql, title="the query (DuckDB)", title_align="left", border_style="dim"))


def _bill(console: Console, findings: Findings) -> None:
    report: dict[str, Any] = findings.report
    if not report:
        return
    units = report["inference_units"]
    metered = findings.billed["models"][0]
    minutes = math.ceil(metered["unit_seconds"] / 60)
    console.print(
        f"[bold]Model[/] RUNNING for {report['model_running_seconds']:.1f} s with {units} inference "
        f"unit{'s' if units > 1 else ''}, billed as {minutes} minute{'s' if minutes > 1 else ''}: "
        f"[bold]${report['cost_usd']:.2f}[/]\n"
        f"[dim]predicted ${report['predicted_cost_usd']:.2f}; local AWS's own meter counts {metered['running_seconds']:.1f} s; "
        f"{report['images_per_second'] or 0:.1f} images a second[/]\n"
    )


def _reason(key: str, message: str) -> str:
    """The sentence with the file's name instead of its whole URI."""
    name = key.rpartition("/")[2]
    uri = f"s3://{SOURCE_BUCKET}/{key}"
    return message.replace(uri, name, 1) if uri in message else f"{name}: {message}"


def _short(path: Any) -> str:
    return str(path.relative_to(ROOT))
