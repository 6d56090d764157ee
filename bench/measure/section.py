"""The result of a measurement: a section of the report, with tables and ratios."""

from dataclasses import dataclass, field
from statistics import median


@dataclass
class Section:
    """One measurement: machine-readable `figures`, human-readable `tables` and `notes`."""

    title: str
    figures: dict
    tables: list["Table"]
    notes: list[str] = field(default_factory=list)

    def markdown(self) -> str:
        lines = [f"## {self.title}", ""]
        for table in self.tables:
            lines += [*table.lines(), ""]
        lines += [f"{note}\n" for note in self.notes]
        return "\n".join(lines)


@dataclass
class Table:
    head: list[str]
    rows: list[list[str]]

    def lines(self) -> list[str]:
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        rule = ["-" * width for width in widths]
        return [
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |"
            for row in [self.head, rule, *self.rows]
        ]


@dataclass(frozen=True)
class Ratio:
    """Ratio of two alternating measurements: median, minimum and maximum over the rounds."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.least:.2f} to {self.most:.2f})"

    def figures(self) -> dict:
        return {"median": self.median, "least": self.least, "most": self.most}


def ratio(ours: list[float], theirs: list[float]) -> Ratio:
    """Ratio per round, because other load on the machine slows both."""
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return Ratio(median(ratios), min(ratios), max(ratios))
