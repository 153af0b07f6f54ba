# SPDX-License-Identifier: Apache-2.0
"""What the checks share: the files of the tree and C text without comments and literals."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
LAYERS = ("base", "acme", "dns", "hooks", "agent")
_LITERAL = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\'', re.DOTALL)


def files(*suffixes: str, folders=(*LAYERS, "tests")) -> list[Path]:
    found = (path for folder in folders for path in (ROOT / folder).rglob("*"))
    return sorted(path for path in found if path.suffix in suffixes and path.is_file() and "__pycache__" not in path.parts)


def code_only(text: str) -> str:
    """The text with comments and literals blanked, lines and columns kept."""
    return _LITERAL.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def finish(what: str, complaints: list[str]) -> None:
    """Prints the complaints and exits; one line if there are none."""
    for complaint in complaints:
        print(complaint)
    if not complaints:
        print(f"{what}: nothing to complain about")
    sys.exit(1 if complaints else 0)


def place(path: Path, line: int) -> str:
    return f"{path.relative_to(ROOT)}:{line}"
