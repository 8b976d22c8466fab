"""What a bench found, as a table in Markdown."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Table:
    """Rows of as many cells as the head has; a cell is shown as it is, so that it carries its unit."""

    title: str
    head: tuple[str, ...]
    rows: list[tuple[str, ...]] = field(default_factory=list)
    #: What was measured and by what, where the title does not say it.
    note: str = ""

    def add(self, *cells: str) -> None:
        self.rows.append(cells)

    def __str__(self) -> str:
        widths = [max(map(len, column)) for column in zip(self.head, *self.rows, strict=True)]
        lines = [self.head, tuple("-" * width for width in widths), *self.rows]
        body = "\n".join(
            "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
            for line in lines
        )
        return f"### {self.title}\n\n{body}\n" + (f"\n{self.note}\n" if self.note else "")


def against(value: float, bar: float, form: str = "{:.2f}") -> str:
    """A bar that must not be passed, and whether it holds."""
    return f"≤ {form.format(bar)}: {'holds' if value <= bar else 'MISSED'}"


def at_least(value: float, bar: float, form: str = "{:.0f}") -> str:
    """A bar that must be reached, and whether it is."""
    return f"≥ {form.format(bar)}: {'holds' if value >= bar else 'MISSED'}"
