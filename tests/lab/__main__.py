# SPDX-License-Identifier: Apache-2.0
"""The usual lab to play with: python3 -m tests.lab [COMMAND…]

Starts everything, runs a shell (or the command) inside, and clears it all away when that ends.
"""

import os
import sys

from . import Lab, standard


def main() -> int:
    with Lab() as lab:
        mailcow = standard.start(lab)
        ca, web, ejabberd = mailcow.ca, mailcow.web, mailcow.ejabberd
        env = {
            "CA_DIRECTORY": ca.directory_url,
            "CA_BUNDLE": ca.ca_bundle,
            "CA_ROOTS": ca.write_roots(),
            "WEB_ROOT": web.web_root,
            "CERT_DIR": ejabberd.cert_dir,
            "EJABBERD_API": ejabberd.api_http,
            "PS1": "lab# ",
        }
        command = sys.argv[1:] or ["bash", "--norc"]
        if not sys.argv[1:]:
            print("\n".join(f"{name}={value}" for name, value in env.items() if name != "PS1"))
        # In our own session, because a shell wants the terminal.
        process = lab.popen(command, env=env, cwd=os.getcwd(), stdin=None, start_new_session=False)
        return process.wait()


if __name__ == "__main__":
    sys.exit(main())
