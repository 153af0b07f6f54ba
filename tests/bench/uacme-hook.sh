#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# uacme's hook: METHOD TYPE IDENT TOKEN AUTH; TOKEN_DIR is the challenge directory.
case $1:$2 in
begin:http-01) printf %s "$5" >"$TOKEN_DIR/$4" ;;
done:http-01 | failed:http-01) rm -f "$TOKEN_DIR/$4" ;;
*) exit 1 ;;
esac
