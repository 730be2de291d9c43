"""``headcount audit``: the options, and what is shown."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

if TYPE_CHECKING:
    from rich.console import Console

    from pipeline.audit.running import Outcome

EXIT_BROKEN = 1


@click.command(context_settings={"show_default": True})
@click.option("--full", is_flag=True, help="At full size: up to half an hour on two cores.")
@click.option("--only", multiple=True, metavar="A3", help="These attacks only; may be given again.")
@click.option("--processes", type=click.IntRange(1, 16), default=2, help="Attacks at once.")
@click.option("--seed", type=int, default=20_261_122, help="Of the inputs. Noise cannot be seeded.")
@click.option(
    "--to", "path", type=click.Path(dir_okay=False, path_type=Path), default=Path("var/audit.json"), help="Figures."
)
@click.option("--json", "as_json", is_flag=True, help="Print the figures as JSON.")
def audit(full: bool, only: tuple[str, ...], processes: int, seed: int, path: Path, as_json: bool) -> None:
    """Try to break the promise, and say how hard it was tried.

    Ten attacks, from exact tallies to what an analyst sees; the last plants faults in the code and checks that the
    others find them. Needs no broker and no data: everything is invented, and runs on this machine. docs/audit.md says
    what each one is, and what a pass means and does not mean.

    \b
    Exit code 0: no violation found. 1: a bound is broken, or an attack could not be tried.

    \b
    headcount audit --only A3 --only A5
    headcount audit --full --json > audit.json
    """
    from rich.console import Console

    from pipeline.audit.attacks import ATTACKS
    from pipeline.audit.findings import line
    from pipeline.audit.running import run_attacks, write

    chosen = [attack for attack in ATTACKS if not only or attack.id in {each.upper() for each in only}]
    if unknown := {each.upper() for each in only} - {attack.id for attack in chosen}:
        raise click.UsageError(f"there is no attack {', '.join(sorted(unknown))}: A0 to A{len(ATTACKS) - 1}")
    out = Console(stderr=as_json, soft_wrap=True)
    out.print(f"seed of the inputs: {seed}; {'full' if full else 'short'} sizes", highlight=False)
    outcomes, began = [], time.monotonic()
    names = {attack.id: attack.name for attack in chosen}
    with bars(Console(stderr=True), names) as watch:
        for outcome in run_attacks(chosen, full=full, seed=seed, processes=processes, watch=watch):
            outcomes.append(outcome)
            show(out, outcome, names[outcome.attack])
    write(path, outcomes)
    if as_json:
        click.echo(
            msgspec.json.encode([line(finding) for outcome in outcomes for finding in outcome.findings]).decode()
        )
    broken = [outcome.attack for outcome in outcomes if not outcome.ok]
    verdict = f"[bold red]BROKEN: {', '.join(broken)}" if broken else "[green]no violation found"
    out.print(f"{verdict}[/] in {time.monotonic() - began:,.0f} s; figures in {path}", highlight=False)
    if broken:
        sys.exit(EXIT_BROKEN)


def show(out: "Console", outcome: "Outcome", name: str) -> None:
    """One attack: what it tried, how often, the figure, the bound, the verdict."""
    out.print(f"\n[bold]{outcome.attack}[/] {name}  [dim]{outcome.seconds:.0f} s[/]", highlight=False)
    for finding in outcome.findings:
        colour = "green" if finding.ok else "bold red"
        about = f"  {finding.attack.partition(': ')[2]}: {finding.n:,} {finding.tried}"
        out.print(about, highlight=False, markup=False)
        figures = f"    {finding.figure:.5g}, bound {finding.sense} {finding.bound:.5g}"
        out.print(f"{figures}: [{colour}]{finding.verdict}[/]", highlight=False)


@contextmanager
def bars(console: "Console", names: dict[str, str]) -> Iterator[Callable[[str, int, int], None]]:
    """A bar for each attack that is running, on standard error; nothing where nobody looks."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    if not console.is_terminal:
        yield lambda *_: None
        return
    columns = (TextColumn("{task.description:>44}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def watch(attack: str, done: int, of: int) -> None:
            if attack not in tasks:
                tasks[attack] = progress.add_task(f"{attack} {names[attack]}", total=of)
            progress.update(tasks[attack], completed=done, total=of, visible=done < of)

        yield watch
