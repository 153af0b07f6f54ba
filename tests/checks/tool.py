# SPDX-License-Identifier: Apache-2.0
"""Foreign tools over the tree: tool.py shellcheck | man | format. Exit status 77, meson's word for skipped, where the tool is missing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import tree

FORMAT_VERSION = "14"  # of Debian 12; others lay out some lines differently


def skip(why: str) -> None:
    print(why)
    sys.exit(77)


def run(command: list) -> list[str]:
    """What the tool printed, and that it failed if it did so silently."""
    done = subprocess.run(command, cwd=tree.ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines = done.stdout.splitlines()
    return lines or ([f"{command[0]} ended with status {done.returncode}"] if done.returncode else [])


def shellcheck() -> list[str]:
    scripts = ["dev", ".ci/run", *tree.files(".sh")]
    return run(["shellcheck", "-x", *scripts])


def man() -> list[str]:
    pages = sorted(path for path in (tree.ROOT / "man").glob("*.[1-8]"))
    # STYLE is about the page's date and the like; what is left changes what the reader sees.
    return run(["mandoc", "-T", "lint", "-W", "warning", *pages]) if pages else []


def clang_format() -> list[str]:
    version = re.search(r"version (\d+)", subprocess.run(["clang-format", "--version"], capture_output=True, text=True).stdout)
    if not version or version[1] != FORMAT_VERSION:
        skip(f"the layout is that of clang-format {FORMAT_VERSION}; here is {version[1] if version else 'another'}")
    return run(["clang-format", "--dry-run", "-Werror", *tree.files(".c", ".h")])


CHECKS = {"shellcheck": ("shellcheck", shellcheck), "man": ("mandoc", man), "format": ("clang-format", clang_format)}


def main() -> None:
    tool, check = CHECKS[sys.argv[1]]
    if not shutil.which(tool):
        skip(f"{tool} is not installed")
    tree.finish(Path(tool).name, check())


if __name__ == "__main__":
    main()
