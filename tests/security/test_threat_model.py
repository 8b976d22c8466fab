"""`docs/security.md` names for each threat the tests that show its defence: they exist."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = (ROOT / "docs" / "security.md").read_text(encoding="utf-8")


def names_in(*paths: Path) -> set[str]:
    return {
        name
        for path in paths
        for name in re.findall(r"^def (test_\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def rows() -> list[list[str]]:
    found = re.search(r"^\| threat \|.*\n\|[-|]+\|\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
    assert found, "docs/security.md has no table of threats"
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines()]


def test_each_threat_has_a_defence_and_tests_that_exist():
    known = names_in(*(ROOT / "tests").rglob("test_*.py"))
    assert len(rows()) >= 20
    for threat, defence, shown_by in rows():
        named = re.findall(r"`(test_\w+)`", shown_by)
        assert defence, threat
        assert named, f"no test shows the defence against: {threat}"
        assert set(named) <= known, f"{threat}: {sorted(set(named) - known)}"


def test_every_published_failure_that_is_tested_stands_in_the_table():
    named = {name for *_, shown_by in rows() for name in re.findall(r"`(test_\w+)`", shown_by)}
    published = {
        name for name in names_in(Path(__file__).parent / "test_published_failures.py") if name.startswith("test_cve")
    }

    assert len(published) >= 7
    assert published <= named
