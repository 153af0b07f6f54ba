# SPDX-License-Identifier: Apache-2.0
"""The direction of includes: base <- {acme, dns, hooks} <- agent; tests may include everything.

    includes.py [--stamp FILE --depfile FILE]

With a stamp it is part of the build, which fails on a wrong include; the depfile lets ninja run it again only when something changed.
"""

import argparse
import re
from pathlib import Path

import tree

MAY_INCLUDE = {
    "base": {"base"},
    "acme": {"base", "acme"},
    "dns": {"base", "dns"},
    "hooks": {"base", "hooks"},
    "agent": {"base", "acme", "dns", "hooks", "agent"},
}
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.MULTILINE)


def complaint(folder: str, how: str, target: str) -> str | None:
    """What is wrong with this include of a file in the folder; None for nothing."""
    wanted = target.partition("/")[0]
    if how == "<":
        return f"<{target}> is ours: write it with quotes" if wanted in MAY_INCLUDE and (tree.ROOT / target).is_file() else None
    if "/" not in target or target.startswith("."):
        return f'"{target}": write the path from the top of the tree, such as "{folder}/{Path(target).name}"'
    allowed = MAY_INCLUDE[folder]
    return None if wanted in allowed else f'"{target}": {folder}/ may include {", ".join(sorted(allowed))} only'


def check(path: Path) -> list[str]:
    text = path.read_text()
    folder = path.relative_to(tree.ROOT).parts[0]
    found = ((match, complaint(folder, *match.groups())) for match in _INCLUDE.finditer(text))
    return [f"{tree.place(path, text.count(chr(10), 0, match.start(2)) + 1)}: {what}" for match, what in found if what]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--stamp", type=Path)
    parser.add_argument("--depfile", type=Path)
    args = parser.parse_args()
    sources = tree.files(".c", ".h", folders=tree.LAYERS)
    complaints = [line for path in sources for line in check(path)]
    if args.stamp and not complaints:
        args.stamp.touch()
        args.depfile.write_text(f"{args.stamp}: {' '.join(str(path).replace(' ', chr(92) + ' ') for path in sources)}\n")
        return
    tree.finish("includes", complaints)


if __name__ == "__main__":
    main()
