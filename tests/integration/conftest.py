# SPDX-License-Identifier: Apache-2.0
"""Fixtures for all integration tests: a lab is expensive, so a module shares one; each test has a Site of its own."""

import itertools
import json
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.lab import Lab, standard  # noqa: E402
from tests.lab.site import Site  # noqa: E402

_numbers = itertools.count(1)


def pytest_configure(config):
    config.addinivalue_line("markers", "deep: a long test, run by `dev test --deep`")


def pytest_collection_modifyitems(items):
    if os.geteuid() != 0:
        for item in items:
            item.add_marker(pytest.mark.skip(reason="needs root for network namespaces"))


class PebbleDeadlock(Exception):
    """Not our failure: `dev test` runs the test once more (--only-rerun)."""


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Of a test that failed with pebble 2.4's own deadlock the report says so."""
    stage = getattr(item, "funcargs", {}).get("stage")
    if stage and call.excinfo and issubclass(call.excinfo.type, Exception) and stage.ca.deadlocked():
        error = PebbleDeadlock(f"pebble waited for itself (its log has the stacks); the test ended with: {call.excinfo.exconly()}")
        call.excinfo = pytest.ExceptionInfo.from_exc_info((PebbleDeadlock, error, call.excinfo.tb))
    yield


@pytest.fixture(scope="module")
def stage():
    """Servers for im.example.test; pebble answers fast and refuses nothing."""
    with Lab() as lab:
        yield standard.start(lab)


@pytest.fixture
def site(stage):
    """A fresh installation, and ejabberd back on its self-signed certificate."""
    from tests.lab import certs

    for host in stage.ejabberd.hosts:
        stage.ejabberd.install(host, certs.combined_pem(standard.host_set(host)))
    stage.ejabberd.write_config()
    stage.ejabberd.reload()
    return Site(stage, f"certherd-{next(_numbers)}")


@pytest.fixture(scope="session")
def schemas():
    """Validates a document against the schema it names."""
    import jsonschema

    files = {path.name: json.loads(path.read_text()) for path in (ROOT / "agent/schema").glob("*.json")}

    def validate(document: dict) -> None:
        family, command, version = document["schema"].split("/")
        assert family == "certherd"
        schema = files[f"{command}.{version}.json"]
        resolver = jsonschema.RefResolver(schema["$id"], schema, store={name: text for name, text in files.items()})
        jsonschema.Draft202012Validator(schema, resolver=resolver).validate(document)

    return validate
