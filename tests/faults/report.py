"""What a campaign found, as a table, as JSON and as Markdown."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import mean

from rich.table import Table


@dataclass(frozen=True)
class Trial:
    """A chain of interruptions or one fault of another kind, until the table was compared.

    ``seconds`` is what it took beyond an undisturbed run. ``problem`` is None where it survived,
    ``log`` is then the last command's; ``skipped`` is None where its fault could be made here.
    """

    name: str
    engine: str
    faults: list[str]
    seconds: float
    again: str
    log: str = ""
    problem: str | None = None
    skipped: str | None = None


@dataclass
class Figures:
    """Of one kind of fault."""

    injected: int = 0
    survived: int = 0
    lost: list[float] = field(default_factory=list)

    @property
    def seconds_lost(self) -> float | None:
        return round(mean(self.lost), 1) if self.lost else None


def by_kind(trials: Sequence[Trial]) -> dict[str, Figures]:
    """Figures of each kind of fault; of a chain that did not survive, its last fault did not."""
    found: dict[str, Figures] = defaultdict(Figures)
    for trial in trials:
        for number, fault in enumerate(trial.faults, 1):
            figures = found[fault]
            figures.injected += 1
            figures.survived += trial.problem is None or number < len(trial.faults)
            if trial.problem is None:
                figures.lost.append(trial.seconds / len(trial.faults))
    return dict(sorted(found.items()))


def table(trials: Sequence[Trial]) -> Table:
    """For the terminal."""
    shown = Table("fault", title="faults", title_justify="left")
    for column in ("injected", "survived", "seconds lost"):
        shown.add_column(column, justify="right")
    for kind, figures in by_kind(trials).items():
        lost = "" if figures.seconds_lost is None else f"{figures.seconds_lost:.1f}"
        shown.add_row(kind, str(figures.injected), str(figures.survived), lost)
    shown.add_section()
    shown.add_row("all", *map(str, _totals(trials)), "")
    return shown


def write(
    trials: Sequence[Trial], folder: Path, seed: int, undisturbed: dict[str, float], untried: int
) -> None:
    """Write report.json and report.md; ``untried`` faults are still to come, or never will."""
    injected, survived = _totals(trials)
    kinds = {
        kind: {
            "injected": figures.injected,
            "survived": figures.survived,
            "seconds_lost": figures.seconds_lost,
        }
        for kind, figures in by_kind(trials).items()
    }
    content = {
        "seed": seed,
        "undisturbed_seconds": undisturbed,
        "injected": injected,
        "survived": survived,
        "untried": untried,
        "kinds": kinds,
        "trials": [asdict(trial) for trial in trials],
    }
    text = json.dumps(content, indent=1, ensure_ascii=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    lines = [
        f"{survived} of {injected} faults survived (seed {seed})."
        + (f" {untried} were not tried." if untried else ""),
        "",
        "| fault | injected | survived | seconds lost |",
        "|---|---|---|---|",
        *(
            f"| {kind} | {row['injected']} | {row['survived']} | {row['seconds_lost'] or ''} |"
            for kind, row in kinds.items()
        ),
        "",
        *(
            f"- {t.name} ({t.engine}): {t.problem}; `{t.again}`; {t.log}"
            for t in trials
            if t.problem
        ),
        *(f"- {t.name}: skipped, {t.skipped}" for t in trials if t.skipped),
    ]
    (folder / "report.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _totals(trials: Sequence[Trial]) -> tuple[int, int]:
    figures = by_kind(trials).values()
    return sum(one.injected for one in figures), sum(one.survived for one in figures)
