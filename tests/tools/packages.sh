# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh disable=SC2154 # $root is the top of the tree, set by dev
#
# The Debian packages that `dev` needs, per purpose, and their installation; sourced by `dev`. The names are the same in
# Debian 12 and 13. With everything in place this costs one dpkg-query.
#
# An installation must not change what runs on the machine: while it lasts, policy-rc.d forbids the start of services, and
# the units that came with it are disabled afterwards. The policy-rc.d that was there before is moved away and back, so it
# keeps its contents, owner and mode; should we be killed in between, the next installation puts it back.

packages_for()
{
    case $1 in
    build)
        echo gcc libc6-dev meson ninja-build pkgconf python3 libuv1-dev libcurl4-openssl-dev libssl-dev libjansson-dev
        echo libldns-dev libmicrohttpd-dev libyaml-dev libidn2-dev libpsl-dev libcmocka-dev
        echo valgrind # its header: what is built without it can't be run under it later
        ;;
    lab) # servers, and what drives them
        echo pebble knot unbound nginx ejabberd iproute2 openssl ca-certificates procps
        echo python3-dnspython python3-cryptography python3-yaml
        ;;
    test)
        packages_for build
        packages_for lab
        echo clang libc6-dbg python3-pytest python3-pytest-rerunfailures python3-jsonschema mandoc shellcheck clang-format
        echo strace faketime mount curl knot-dnsutils acme-tiny # what single tests call
        ;;
    deep)
        packages_for test
        echo debootstrap debian-archive-keyring
        ;;
    demo)
        packages_for build
        packages_for lab
        ;;
    bench)
        packages_for build
        packages_for lab
        echo uacme certbot lego acme-tiny
        ;;
    lint)
        packages_for build
        echo clang-format clang-tidy cppcheck shellcheck mandoc
        ;;
    fuzz)
        packages_for build
        echo clang libclang-rt-dev
        ;;
    *)
        echo "dev: no list of packages is called '$1'; there are build, test, deep, demo, bench, lint, fuzz" >&2
        return 2
        ;;
    esac
}

# packages_missing GROUP...: those that are not installed, one per line.
packages_missing()
{
    wanted=$(for group in "$@"; do packages_for "$group" || exit 2; done | tr ' ' '\n' | sort -u) || return 2
    # shellcheck disable=SC2016,SC2086 # dpkg's fields, not the shell's; a list of words
    installed=$(dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' $wanted 2>/dev/null | sed -n 's/^.i  *//p' | sort -u)
    printf '%s\n' "$wanted" | while read -r package; do
        case "
$installed
" in
        *"
$package
"*) ;;
        *) echo "$package" ;;
        esac
    done
}

policy_file=/usr/sbin/policy-rc.d
policy_saved=/usr/sbin/policy-rc.d.before-certherd-dev
policy_mark='certherd dev: no service starts while packages are installed'

policy_restore()
{
    if [ -f "$policy_file" ] && grep -qsF "$policy_mark" "$policy_file"; then
        rm -f "$policy_file"
    fi
    if [ -e "$policy_saved" ] || [ -L "$policy_saved" ]; then
        mv -f "$policy_saved" "$policy_file"
    fi
}

policy_forbid()
{
    policy_restore # of an installation that was killed
    if [ -e "$policy_file" ] || [ -L "$policy_file" ]; then
        mv "$policy_file" "$policy_saved"
    fi
    printf '#!/bin/sh\n# %s\nexit 101\n' "$policy_mark" >"$policy_file"
    chmod 755 "$policy_file"
}

installed_packages()
{
    # shellcheck disable=SC2016 # dpkg's fields
    dpkg-query -W -f '${db:Status-Abbrev} ${Package}\n' | sed -n 's/^.i  *//p' | sort -u
}

# Units and init scripts of these packages: not at the next boot either.
units_disable()
{
    for package in "$@"; do
        dpkg-query -L "$package" 2>/dev/null |
            sed -nE 's,^(/usr)?/lib/systemd/system/([^/@]+\.(service|socket|timer|path))$,\2,p; s,^/etc/init\.d/([^/]+)$,init \1,p'
    done | sort -u | while read -r kind name; do
        if [ "$kind" = init ]; then
            update-rc.d "$name" disable >/dev/null 2>&1 || true
        elif command -v systemctl >/dev/null; then
            systemctl disable "$kind" >/dev/null 2>&1 || true
        else
            DPKG_MAINTSCRIPT_PACKAGE=certherd-dev deb-systemd-helper disable "$kind" >/dev/null 2>&1 || true # it wants to be in one
        fi
    done
}

# A subshell, so that its traps are its own: whatever ends it, policy-rc.d is as it was.
packages_install()
(
    DEBIAN_FRONTEND=noninteractive
    export DEBIAN_FRONTEND
    before=$(installed_packages)
    trap policy_restore EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    policy_forbid
    status=0
    dpkg --configure -a # what an interrupted installation left
    apt-get update -q -o Acquire::Retries=3 || echo "dev: apt-get update failed; trying with the lists that are there" >&2
    # --no-remove: rather fail than take something away from the machine.
    apt-get install -q -y --no-install-recommends --no-remove -o Acquire::Retries=3 -o DPkg::Lock::Timeout=300 \
        -o Dpkg::Options::=--force-confold "$@" || status=$?
    # shellcheck disable=SC2046 # a list of words
    units_disable $({ printf '%s\n' "$before" "$before"; installed_packages; } | sort | uniq -u)
    exit "$status"
)

# packages_need GROUP...: installs what is missing, or says what that is.
packages_need()
{
    if ! command -v dpkg-query >/dev/null; then
        echo "dev: no dpkg here, so I can't see whether everything is installed; going on" >&2
        return 0
    fi
    missing=$(packages_missing "$@") || return
    [ -n "$missing" ] || return 0
    # shellcheck disable=SC2086 # a list of words
    set -- $missing
    if [ "$(id -u)" != 0 ]; then
        echo "dev: missing Debian packages; as root I would run:" >&2
        echo "  apt-get install --no-install-recommends $*" >&2
        return 1
    fi
    echo "installing $# Debian packages: $*"
    log=$root/build/logs/install.log
    mkdir -p "$root/build/logs"
    # With a trap the shell waits for the installation, which tidies up, before it goes.
    interrupted=
    trap 'interrupted=yes' INT TERM HUP
    good=yes
    packages_install "$@" >"$log" 2>&1 </dev/null || good=
    trap - INT TERM HUP
    if [ -n "$interrupted" ]; then
        echo "dev: interrupted while packages were installed" >&2
        return 130
    fi
    if [ -z "$good" ]; then
        tail -n 30 "$log" >&2
        echo "dev: the installation failed; all of it is in $log" >&2
        return 1
    fi
}
