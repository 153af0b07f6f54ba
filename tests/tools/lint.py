# SPDX-License-Identifier: Apache-2.0
"""What looks at the source without running it: the checks of tests/checks, clang-tidy, cppcheck, gcc -fanalyzer. A linter that finds nothing
prints one line."""

import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PYTHON = "/usr/bin/python3"
FOLDERS = ("base", "acme", "dns", "hooks", "agent")

# The analyzer can't know that a result is set wherever no error is returned.
ANALYZER = ["-std=gnu17", "-D_GNU_SOURCE", '-DCERTHERD_VERSION=""', "-O1", "-I.", "-fanalyzer", "-Wno-analyzer-null-argument",
            "-Wno-analyzer-null-dereference", "-Werror", "-c", "-o", "/dev/null"]
# mem_realloc_array: what realloc gave back before mem_fail() ends the process "leaks".
ANALYZER_MORE = {"mem.c": ["-Wno-analyzer-malloc-leak"]}

# Macros that its parser can't expand are unknown functions to it. Off, with reasons: autoVariables, a fiber's wait lies on its stack and is
# unlinked before it goes; nullPointerRedundantCheck and uninitvar know neither noreturn nor results by pointer, the compilers and
# sanitizers look for the same; duplicateAssignExpression is style; internalAstError is its own trouble with compound literals.
CPPCHECK = ["cppcheck", "-q", "--std=c11", "--enable=warning,performance,portability", "--inline-suppr", "--error-exitcode=1",
            "--library=tests/tools/cppcheck.cfg", "-I.", "-D_GNU_SOURCE", "-D__GNUC__=12", "-D__x86_64__",
            *(f"-U{macro}" for macro in ("log_at", "log_debug", "log_info", "log_warning", "log_error", "STEAL")),
            *(f"--suppress={what}" for what in ("autoVariables", "nullPointerRedundantCheck", "uninitvar", "duplicateAssignExpression",
                                                "internalAstError"))]


def run(command: list, **more) -> str:
    """What a linter said, empty if it was content."""
    done = subprocess.run(list(map(str, command)), cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    return "" if done.returncode == 0 else done.stdout or f"{command[0]} ended with status {done.returncode}\n"


def each(command, files: list[Path]) -> str:
    """command(file) over all files, as many at once as there are processors."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return "".join(pool.map(lambda file: run(command(file)), files))


def sources(*folders: str) -> list[Path]:
    return sorted(path for folder in folders for path in (ROOT / folder).glob("*.c"))


def check(*arguments: str) -> str:
    done = subprocess.run([PYTHON, "-B", ROOT / f"tests/checks/{arguments[0]}.py", *arguments[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return done.stdout if done.returncode not in (0, 77) else ""


def clang_tidy() -> str:
    build = ROOT / "build-clang"
    if not (build / "compile_commands.json").exists() and (said := run(["meson", "setup", build, "-Ddeveloper=true"], env=os.environ | {"CC": "clang"})):
        return said
    return each(lambda file: ["clang-tidy", "--quiet", "-p", build, file], sources(*FOLDERS))


def analyzer() -> str:
    return each(lambda file: ["gcc", *ANALYZER, *ANALYZER_MORE.get(file.name, []), file], sources("base"))


LINTERS = {
    "includes": lambda: check("includes"),
    "banned": lambda: check("banned"),
    "house": lambda: check("house"),
    "shellcheck": lambda: check("tool", "shellcheck"),
    "man": lambda: check("tool", "man"),
    "format": lambda: check("tool", "format"),
    "cppcheck": lambda: run([*CPPCHECK, f"-j{os.cpu_count()}", *FOLDERS]),
    "gcc analyzer": analyzer,
    "clang-tidy": clang_tidy,
}


def main() -> int:
    bad = 0
    for name, linter in LINTERS.items():
        start = time.monotonic()
        said = linter()
        bad += bool(said)
        print(f"  {name:14} {'complains:' if said else 'nothing to complain about':28} {time.monotonic() - start:6.1f} s", flush=True)
        if said:
            print("".join(f"    | {line}\n" for line in said.splitlines()), end="", flush=True)
    return 1 if bad else 0


if __name__ == "__main__":
    if not shutil.which("clang-tidy"):
        sys.exit("run ./dev lint, which installs what is needed")
    sys.exit(main())
