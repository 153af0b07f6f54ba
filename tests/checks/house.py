# SPDX-License-Identifier: Apache-2.0
"""House rules that a script can see: licence line, lengths, no open ends, `#pragma once`, text that says nothing of the machine it was written on."""

import re
from pathlib import Path

import tree

FILE_LINES, FUNCTION_LINES = 800, 60
SPDX = "SPDX-License-Identifier: Apache-2.0"
SOURCES = (".c", ".h", ".py", ".sh", ".build")
TOP = ("dev", ".ci/run", "meson.build", "Dockerfile")
_TABLE_ROW = re.compile(r"\s+\{.*\},?$")
_OPEN_END = re.compile(r"\b(TODO|FIXME|XXX)\b(?!['\"])")


def licence(path: Path, lines: list[str]) -> list[str]:
    return [] if any(SPDX in line for line in lines[:2]) else [f"{tree.place(path, 1)}: one of the first two lines is to hold {SPDX}"]


def lengths(path: Path, lines: list[str]) -> list[str]:
    found = []
    if len(lines) > FILE_LINES:
        found.append(f"{tree.place(path, FILE_LINES)}: {len(lines)} lines; split it at {FILE_LINES}")
    if path.suffix != ".c":
        return found
    start = None
    for number, line in enumerate(lines, 1):  # clang-format puts the braces of functions, and of nothing else, into column 1
        if line == "{":
            start = number
        elif line == "}" and start:
            count = sum(not _TABLE_ROW.match(inner) for inner in lines[start:number - 1])
            if count > FUNCTION_LINES:
                found.append(f"{tree.place(path, start)}: a function of {count} lines; at most {FUNCTION_LINES} besides the rows of tables")
            start = None
    return found


def open_ends(path: Path, lines: list[str]) -> list[str]:
    return [f"{tree.place(path, n)}: an open end ({match[1]})" for n, line in enumerate(lines, 1) if (match := _OPEN_END.search(line))]


def header(path: Path, lines: list[str]) -> list[str]:
    return [] if path.suffix != ".h" or "#pragma once" in lines else [f"{tree.place(path, 1)}: a header without #pragma once"]


def main() -> None:
    paths = tree.files(*SOURCES) + [tree.ROOT / name for name in TOP if (tree.ROOT / name).exists()]
    complaints = []
    for path in paths:
        lines = path.read_text().splitlines()
        for rule in (licence, lengths, header) if path == Path(__file__).resolve() else (licence, lengths, header, open_ends):
            complaints += rule(path, lines)
    tree.finish("house rules", complaints)


if __name__ == "__main__":
    main()
