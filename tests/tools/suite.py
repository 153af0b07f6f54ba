# SPDX-License-Identifier: Apache-2.0
"""Builds and runs all tests, one line per step, and adds everything up in the last line. Called by `dev`, which has installed what is needed.

    suite.py build | test [--deep] [--list] [PATTERN] | lint

A test has one name over all steps: "unit/base/buf" (the developer build), "asan/base/buf" (the same under AddressSanitizer and UBSan),
"valgrind/base/buf", "checks/includes", "integration/test_lab.py::test_names_resolve". PATTERN is a part of it. What a step prints goes to
build/logs/<step>.log; its end is shown if something failed.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parents[2]
LOGS = ROOT / "build/logs"
PYTHON = "/usr/bin/python3"
SHOWN = 60  # lines of a failed step's log
SANITIZERS = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
}
VALGRIND = "valgrind --quiet --error-exitcode=99 --leak-check=full --errors-for-leak-kinds=definite,indirect --max-stackframe=4000000"
PATIENCE = {"checks": 1, "unit": 2, "asan": 4, "valgrind": 10}  # times a test's own timeout, which is for a machine that does nothing else
# Everything else is seen by the sanitizers, and takes long under valgrind.
UNDER_VALGRIND = "base/"


@dataclass
class Build:
    """A build directory and how it is set up."""

    dir: str
    options: list[str]
    cc: str = "gcc"


BUILDS = {
    "build": Build("build", ["-Ddeveloper=true"]),
    "build-asan": Build("build-asan", ["-Ddeveloper=true", "-Db_sanitize=address,undefined", "-Db_lundef=false"]),
    "build-clang": Build("build-clang", ["-Ddeveloper=true"], cc="clang"),
}


@dataclass
class Step:
    """What one line of the output is about. Results are "passed", "failed", "skipped" by test name."""

    name: str
    results: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def log(self) -> Path:
        return LOGS / f"{self.name}.log"

    def count(self, result: str) -> int:
        return sum(r == result for r in self.results.values())


def run(step: Step, command: list[str], *, env: dict[str, str] | None = None, timeout: float = 1800, append: bool = False) -> int:
    """Runs a command of a step with its output in the log. It leads a process group, which ends with it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with open(step.log, "ab" if append else "wb") as log:
        log.write(f"$ {' '.join(map(str, command))}\n".encode())
        log.flush()
        process = subprocess.Popen(command, cwd=ROOT, env=os.environ | (env or {}), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            log.write(f"\nstopped after {timeout:g} s\n".encode())
            return 124
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                if process.poll() is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, number)
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        process.wait(20)


def tail(path: Path, lines: int = SHOWN) -> str:
    """The end of a log, without ninja's lines for what went well."""
    told = [line for line in path.read_text(errors="replace").splitlines() if not re.match(r"\[\d+/\d+\] ", line)]
    return "\n".join("    | " + line for line in told[-lines:])


class Report:
    """Prints the steps as they end."""

    def __init__(self):
        self.steps: list[Step] = []
        self.terminal = sys.stdout.isatty()

    @contextlib.contextmanager
    def step(self, name: str):
        step = Step(name)
        if self.terminal:
            print(f"  {name:12} ...", end="", flush=True)
        start = time.monotonic()
        yield step
        step.seconds = time.monotonic() - start
        self.steps.append(step)
        counts = ", ".join(f"{step.count(r)} {r}" for r in ("passed", "failed", "skipped") if r == "passed" or step.count(r))
        print(f"{chr(13) * self.terminal}  {name:12} {counts:36} {step.seconds:6.1f} s", flush=True)
        if step.count("failed"):
            print("\n".join(f"    failed: {test}" for test, result in step.results.items() if result == "failed"))
            if step.log.exists():
                print(f"{tail(step.log)}\n    all of it: {step.log.relative_to(ROOT)}", flush=True)

    def total(self) -> int:
        counts = [sum(step.count(result) for step in self.steps) for result in ("passed", "failed", "skipped")]
        print("{} passed, {} failed, {} skipped".format(*counts), flush=True)
        return 1 if counts[1] else 0


# Builds


def configured(build: Build) -> bool:
    return (ROOT / build.dir / "build.ninja").exists()


def configure(step: Step, build: Build) -> bool:
    return configured(build) or run(step, ["meson", "setup", build.dir, *build.options], env={"CC": build.cc}) == 0


def compile_all(report: Report, name: str) -> bool:
    with report.step(name) as step:
        build = BUILDS[name]
        good = configure(step, build) and run(step, ["ninja", "-C", build.dir], append=True) == 0
        step.results[name] = "passed" if good else "failed"
    return good


# Tests of meson


def meson_tests(build: Build, deep: bool) -> dict[str, str]:
    """Suite by name of each test."""
    listed = json.loads(subprocess.run(["meson", "introspect", build.dir, "--tests"], cwd=ROOT, check=True, capture_output=True).stdout)
    suites = {test["name"]: [s.partition(":")[2] for s in test["suite"]] for test in listed}
    return {name: s[0] if s else "" for name, s in suites.items() if deep or "deep" not in s}


def chosen(step: str, build: Build, args) -> list[str]:
    """The tests of this build that belong to the step and match the pattern."""
    tests = meson_tests(build, args.deep)
    mine = [name for name, suite in tests.items() if (suite == "checks") == (step == "checks")]
    if step == "valgrind":
        mine = [name for name in mine if name.startswith(UNDER_VALGRIND)]
    return [name for name in mine if args.pattern in f"{step}/{name}"]


def meson_results(path: Path) -> dict[str, str]:
    results = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        test = json.loads(line)
        name = test["name"].rpartition(" / ")[2]
        results[name] = {"OK": "passed", "EXPECTEDFAIL": "passed", "SKIP": "skipped"}.get(test["result"], "failed")
    return results


def run_meson(report: Report, name: str, build: Build, args) -> None:
    tests = chosen(name, build, args)
    if not tests:
        return
    with report.step(name) as step:
        wrapper = ["--wrapper", VALGRIND] if name == "valgrind" else []
        record = ROOT / build.dir / f"meson-logs/{name}{'-valgrind' if wrapper else ''}.json"  # meson adds the wrapper's name
        record.unlink(missing_ok=True)
        patience = ["--timeout-multiplier", str(PATIENCE[name])]
        status = run(step, ["meson", "test", "-C", build.dir, "--no-rebuild", "--print-errorlogs", "--logbase", name, *patience, *wrapper, *tests], env=SANITIZERS)
        results = meson_results(record)
        step.results = {f"{name}/{test}": results.get(test, "failed") for test in tests}
        if status and not step.count("failed"):
            step.results[name] = "failed"


# Tests of pytest


def pytest_command(args) -> list[str]:
    return [PYTHON, "-m", "pytest", "-q", "-m", "deep or not deep" if args.deep else "not deep", "--rootdir", "tests", "-c", "tests/pytest.ini",
            "--reruns", "1", "--only-rerun", "PebbleDeadlock"]


def pytest_nodes(args) -> list[str]:
    process = subprocess.run([*pytest_command(args), "--collect-only", "tests"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if process.returncode not in (0, 5):
        raise SystemExit(f"the Python tests can't be read:\n{process.stdout}{process.stderr}")
    return [line for line in process.stdout.splitlines() if "::" in line and args.pattern in line]


def junit_results(path: Path) -> dict[str, str]:
    results: dict[str, str] = {}
    for case in ElementTree.parse(path).iter("testcase") if path.exists() else []:
        name = f"{case.get('classname')}::{case.get('name')}"
        bad = case.find("failure") is not None or case.find("error") is not None
        result = "failed" if bad else "skipped" if case.find("skipped") is not None else "passed"
        if results.get(name) != "failed":  # a test that passed may fail in its teardown
            results[name] = result
    return results


def run_pytest(report: Report, args, env: dict[str, str]) -> None:
    nodes = pytest_nodes(args)
    if not nodes:
        return
    with report.step("integration") as step:
        record = LOGS / "integration.xml"
        record.unlink(missing_ok=True)
        what = [f"tests/{node}" for node in nodes] if args.pattern else ["tests"]
        status = run(step, [*pytest_command(args), "-rs", "--durations=15", f"--junitxml={record}", *what], env=env, timeout=3300)
        step.results = junit_results(record)
        if status and not step.count("failed"):
            step.results["integration"] = "failed"


# Commands


def list_tests(args) -> int:
    for name, build in (("checks", "build"), ("unit", "build"), ("asan", "build-asan"), ("valgrind", "build")):
        print("".join(f"{name}/{test}\n" for test in chosen(name, BUILDS[build], args)), end="")
    print("".join(f"{node}\n" for node in pytest_nodes(args)), end="")
    return 0


def deep_steps(report: Report, args) -> None:
    if args.pattern in "debian13":
        with report.step("debian13") as step:
            good = run(step, [PYTHON, "tests/deep/debian.py", "trixie"], timeout=2400) == 0
            step.results["debian13"] = "passed" if good else "failed"


def deep_environment(report: Report, stack: contextlib.ExitStack) -> dict[str, str]:
    """What the deep tests of pytest look for in the environment."""
    sys.path.insert(0, str(ROOT / "tests"))
    from deep import newest_pebble  # needs apt, so only here

    with report.step("pebble") as step:
        found = newest_pebble.fetch(stack)
        step.results["pebble"] = "passed" if found else "skipped"
    return {"CERTHERD_NEWEST_PEBBLE": str(found)} if found else {}


def test(args) -> int:
    report = Report()
    if not compile_all(report, "build"):
        return report.total()
    if args.list:
        with contextlib.redirect_stdout(sys.stderr):
            configure(Step("build-asan"), BUILDS["build-asan"])
        return list_tests(args)
    run_meson(report, "checks", BUILDS["build"], args)
    run_meson(report, "unit", BUILDS["build"], args)
    run_meson(report, "valgrind", BUILDS["build"], args)
    wanted = not args.pattern or chosen("asan", BUILDS["build"], args)
    if wanted and compile_all(report, "build-asan"):
        run_meson(report, "asan", BUILDS["build-asan"], args)
    if args.pattern in "build-clang":
        compile_all(report, "build-clang")
    with contextlib.ExitStack() as stack:
        run_pytest(report, args, deep_environment(report, stack) if args.deep else {})
    if args.deep:
        deep_steps(report, args)
    return report.total()


def build(args) -> int:
    report = Report()
    return 0 if compile_all(report, "build") else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="./dev")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build")
    commands.add_parser("lint")
    tests = commands.add_parser("test")
    tests.add_argument("--deep", action="store_true", help="also what takes long")
    tests.add_argument("--list", action="store_true", help="print the names of the tests and run none")
    tests.add_argument("pattern", nargs="?", default="", metavar="PATTERN", help="only tests whose name contains this")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that steps are ended on the way out
    try:
        if args.command == "lint":
            import lint

            return lint.main()
        return {"build": build, "test": test}[args.command](args)
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
