# SPDX-License-Identifier: Apache-2.0
"""Builds the fuzz targets with libFuzzer, AddressSanitizer and UBSan and runs them, one after the other. Called by `dev`.

    fuzz.py [TARGET [SECONDS]]

Without a target, or with "all", each gets its turn. What reaches new code is collected in build-fuzz/corpus/<target>/ for the next run; what
fails is kept in build-fuzz/findings/. The corpora under tests/fuzz/corpus/ are only read: what is worth a regression test is copied there by
hand, after `build-fuzz/tests/fuzz/fuzz_<target> -minimize_crash=1 FILE` has made it small.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / "build-fuzz"
CORPUS = ROOT / "tests/fuzz/corpus"
SETUP = ["meson", "setup", str(BUILD), "-Dfuzz=true", "-Db_sanitize=address,undefined", "-Db_lundef=false", "-Doptimization=1"]
SANITIZERS = {"ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1", "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
LENGTH = 4096
LONGER = {"xmpp": 20000, "http_headers": 8192}  # so that the parser's own limits are reached
DONE = re.compile(rb"Done (\d+) runs in (\d+) second")


def targets() -> list[str]:
    return sorted(path.stem.removeprefix("fuzz_") for path in (ROOT / "tests/fuzz").glob("fuzz_*.c"))


def build(names: list[str]) -> None:
    if not (BUILD / "build.ninja").exists():
        subprocess.run(SETUP, cwd=ROOT, env=os.environ | {"CC": "clang"}, check=True, stdout=sys.stderr)
    ninja = subprocess.run(["ninja", "-C", str(BUILD), *(f"tests/fuzz/fuzz_{name}" for name in names)], capture_output=True, text=True)
    if ninja.returncode:
        raise SystemExit(f"{ninja.stdout}{ninja.stderr}")


def run(name: str, seconds: int) -> bool:
    found, failed = BUILD / "corpus" / name, BUILD / "findings"
    found.mkdir(parents=True, exist_ok=True)
    failed.mkdir(exist_ok=True)
    log = failed / f"{name}.log"
    # Looked for once, at the end: libFuzzer's own search runs far too often and makes some targets three times as slow.
    leaks = "-detect_leaks=0"
    command = [str(BUILD / f"tests/fuzz/fuzz_{name}"), f"-max_total_time={seconds}", f"-max_len={LONGER.get(name, LENGTH)}", "-timeout=10", leaks,
               "-rss_limit_mb=2048", "-print_final_stats=1", f"-artifact_prefix={failed}/{name}-", str(found), str(CORPUS / name)]
    with open(log, "wb") as out:
        status = subprocess.run(command, cwd=ROOT, env=os.environ | SANITIZERS, stdin=subprocess.DEVNULL, stdout=out, stderr=out).returncode
    done = DONE.search(log.read_bytes())
    runs = f"{int(done[1]):>10} runs in {int(done[2])} s" if done else "stopped"
    print(f"  {name:20} {runs}{'' if status == 0 else f', FAILED: {log.relative_to(ROOT)}'}", flush=True)
    return status == 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev fuzz")
    parser.add_argument("target", nargs="?", default="all", choices=[*targets(), "all"], metavar="TARGET", help=", ".join(targets()))
    parser.add_argument("seconds", nargs="?", type=int, default=60, metavar="SECONDS", help="for each target (60)")
    args = parser.parse_args()
    names = targets() if args.target == "all" else [args.target]
    build(names)
    return 0 if all([run(name, args.seconds) for name in names]) else 1


if __name__ == "__main__":
    sys.exit(main())
