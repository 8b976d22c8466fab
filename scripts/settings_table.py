"""The table in docs/settings.md, made from the settings' own fields: `python -m scripts.settings_table` rewrites it."""

from pathlib import Path
from typing import Any

from opencode.project_file import NOT_FROM_PROJECT
from opencode.settings import Settings, variable

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"
BEGIN, END = "<!-- table: begin -->\n", "<!-- table: end -->\n"


def table() -> str:
    """A row for each setting, in the order of the fields."""
    rows = ["| variable | in `opencode.toml` | default | form | meaning |", "|---|---|---|---|---|"]
    for name, field in Settings.model_fields.items():
        extra: Any = field.json_schema_extra
        place = "no" if name in NOT_FROM_PROJECT else f"`{name}`"
        cells = [f"`{variable(field)}`", place, _default(name, field.default), extra["form"], field.description or ""]
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _default(name: str, value: Any) -> str:
    if name == "data_dir":  # as platformdirs has it, another one on each system
        return "the user's data folder"
    if value in (None, (), {}):
        return "none"
    if isinstance(value, bool):
        return "`on`" if value else "`off`"
    return f"`{', '.join(value) if isinstance(value, tuple) else f'{value:g}' if isinstance(value, float) else value}`"


def rewritten(page: str) -> str:
    """The page with the table as it should be."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}{table()}{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(rewritten(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
