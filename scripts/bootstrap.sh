#!/usr/bin/env bash
# Makes everything ready that the other targets of the Makefile need: Debian packages, when some are missing, and .venv.
# "browser" as an argument: also what only the tests in a browser need.
# Run again it finds that all is there and ends at once. PYTHON=... chooses the interpreter (3.11 or newer).
set -eu
for_browser=$([ "${1:-}" != browser ] || echo 1)
cd "$(dirname "$0")/.."
PATH="$PATH:/usr/sbin:/usr/local/sbin"

say() { printf '%s\n' "$*" >&2; }

mkdir -p .cache
exec 9>.cache/bootstrap.lock
flock 9 # two targets started side by side: the second waits and then finds all done

suits() { command -v "$1" >/dev/null 2>&1 && "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

choose_python() {
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || { say "PYTHON=$PYTHON is not a Python of version 3.11 or newer. Choose another one."; exit 1; }
        python=$PYTHON
        return
    fi
    python=
    for candidate in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do
        if suits "$candidate"; then python=$candidate; return; fi
    done
}

missing_packages() {
    missing=
    need() { case " $missing " in *" $1 "*) ;; *) missing="${missing:+$missing }$1" ;; esac; }
    command -v mariadbd >/dev/null && command -v mariadb-install-db >/dev/null || need mariadb-server
    command -v mariadb-tzinfo-to-sql >/dev/null || need mariadb-client
    command -v redis-server >/dev/null || need redis-server
    [ -d /usr/share/zoneinfo/Europe ] || need tzdata
    command -v openssl >/dev/null || need openssl # the tests make certificates
    if [ -n "$for_browser" ] && [ -z "${POOLING_BROWSER_PROGRAM:-}" ]; then
        command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null ||
            need chromium
    fi
    choose_python
    if [ -z "$python" ]; then
        need python3; need python3-venv; need python3-dev
    else
        "$python" -c 'import venv, ensurepip' 2>/dev/null || need python3-venv
    fi
    # Only what is built needs a compiler: mysqlclient has no wheels for Linux.
    if ! .venv/bin/python -c 'import MySQLdb' 2>/dev/null; then
        command -v gcc >/dev/null || { need gcc; need libc6-dev; }
        command -v pkg-config >/dev/null || need pkg-config
        { pkg-config --exists libmariadb || pkg-config --exists mysqlclient || pkg-config --exists mariadb; } 2>/dev/null ||
            need libmariadb-dev
        if [ -n "$python" ]; then
            "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' || need python3-dev
        fi
    fi
}

install_packages() {
    if ! command -v apt-get >/dev/null; then
        say "These packages are missing, and there is no apt-get to install them with: $missing"; exit 1
    elif [ "$(id -u)" = 0 ]; then
        as_root=(env)
    elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
        as_root=(sudo -n env)
    else
        say "These packages are missing: $missing"
        say "Install them (as root: apt-get install $missing), or run this as root or as a user with sudo."; exit 1
    fi
    say "Installing: $missing"
    # Only the programs are wanted, not the services that the packages bring. RUNLEVEL=1 keeps them from being started
    # where init scripts do it; systemd does not ask, so that what was just installed is stopped there afterwards.
    local -a quiet=("${as_root[@]}" DEBIAN_FRONTEND=noninteractive RUNLEVEL=1)
    mkdir -p .cache
    if ! { "${quiet[@]}" apt-get update && "${quiet[@]}" apt-get install -y --no-install-recommends $missing; } \
        >.cache/apt.log 2>&1 9>&-; then
        tail -n 20 .cache/apt.log >&2
        say "These packages are missing and could not be installed: $missing"; exit 1
    fi
    if [ -d /run/systemd/system ]; then
        for package in $missing; do
            case "$package" in
                mariadb-server) "${as_root[@]}" systemctl disable --now mariadb.service >/dev/null 2>&1 ||
                    say "The system's MariaDB service could not be disabled; this project does not need it." ;;
                redis-server) "${as_root[@]}" systemctl disable --now redis-server.service >/dev/null 2>&1 ||
                    say "The system's Redis service could not be disabled; this project does not need it." ;;
            esac
        done
    fi
}

missing_packages
if [ -n "$missing" ]; then
    install_packages
    hash -r
    asked=$missing
    missing_packages
    if [ -n "$missing" ]; then
        say "Installed: $asked. Still missing: $missing"
        say "With a Python that Debian does not provide, its own headers and venv module are needed: PYTHON=/usr/bin/python3 avoids it."
        exit 1
    fi
fi

version() { "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }

if ! suits .venv/bin/python || { [ -n "${PYTHON:-}" ] && [ "$(version .venv/bin/python)" != "$(version "$python")" ]; }; then
    if [ -L .venv ]; then say ".venv is a link to an environment that does not suit $python. Remove the link."; exit 1; fi
    say "Making .venv with $("$python" --version)"
    rm -rf .venv
    "$python" -m venv .venv
fi

install_python_packages() { # the file that lists them, the stamp that says that they are there
    wanted="$(version .venv/bin/python) $(sha256sum <"$1")"
    if [ "$(cat ".venv/$2" 2>/dev/null || true)" != "$wanted" ]; then
        say "Installing the Python packages of $1"
        if ! .venv/bin/python -m pip install --disable-pip-version-check -q -r "$1" >.cache/pip.log 2>&1 9>&-; then
            tail -n 30 .cache/pip.log >&2
            say "The Python packages could not be installed; the whole log is in .cache/pip.log."
            exit 1
        fi
        printf '%s\n' "$wanted" >".venv/$2"
    fi
}

install_python_packages requirements-dev.txt requirements.stamp
if [ -n "$for_browser" ]; then install_python_packages requirements-browser.txt browser.stamp; fi
