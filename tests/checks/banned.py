# SPDX-License-Identifier: Apache-2.0
"""Functions that nobody calls here, with what to use instead."""

import re

import tree

BANNED = {
    "strcpy strcat sprintf vsprintf strncpy strncat stpcpy gets": "a buffer (base/buf.h), str_printf or snprintf",
    "atoi atol atoll atof strtol strtoll strtoul strtoull": "str_to_u64 and its like in base/mem.h, which see overflow and rubbish",
    "sleep usleep nanosleep": "fiber_sleep, or wait for the event itself",
    "system popen": "base/child.h",
    "alloca": "a buffer with a maximum",
    "localtime localtime_r mktime ctime asctime": "base/clock.h, which is UTC",
    "rand srand random srandom drand48": "the world's randomness (base/world.h)",
    "strtok": "strtok_r, or a parser",
    "setjmp longjmp": "errors that are returned",
}
ADVICE = {name: advice for names, advice in BANNED.items() for name in names.split()}
NUMBERS = {name for name in ADVICE if name.startswith("strto")}
ALLOWED_IN = {"base/mem.c": NUMBERS}
ALLOWED_IN_TESTS = NUMBERS | {"strncat", "usleep", "nanosleep"}  # small programs without base/, and threads that play a slow server
_CALL = re.compile(rf"(?<![\w.>])({'|'.join(ADVICE)})\s*\(")


def check(path) -> list[str]:
    text = tree.code_only(path.read_text())
    inside = path.relative_to(tree.ROOT)
    allowed = ALLOWED_IN_TESTS if inside.parts[0] == "tests" else ALLOWED_IN.get(str(inside), set())
    return [
        f"{tree.place(path, text.count(chr(10), 0, match.start()) + 1)}: {match[1]}() is banned; use {ADVICE[match[1]]}"
        for match in _CALL.finditer(text)
        if match[1] not in allowed
    ]


if __name__ == "__main__":
    tree.finish("banned functions", [line for path in tree.files(".c", ".h") for line in check(path)])
