# SPDX-License-Identifier: Apache-2.0
"""Real servers in a private network namespace: the ground that the demo, the integration tests and
the benchmarks stand on.

with Lab() as lab:                       # needs root; see lab.py
    mailcow = standard.start(lab)        # DNS, CA, web server and ejabberd; see standard.py
    lab.run(["certherd", "renew"])
"""

from .base import LabError
from .lab import Lab
from .server import Server

__all__ = ["Lab", "LabError", "Server"]
