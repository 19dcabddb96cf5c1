#!/bin/sh
# Make a virtual environment: make_venv.sh PYTHON DIRECTORY
#
# Debian ships Python without the parts that make environments (package python3-venv). As root they
# are installed; otherwise we say how.
set -eu
python=$1
directory=$2

if ! "$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))'; then
    echo "Fabric needs Python 3.11, 3.12 or 3.13; '$python' is $("$python" --version 2>&1)." >&2
    echo "Choose another one with: make PYTHON=/path/to/python3.11 ..." >&2
    exit 1
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        echo "installing python3-venv"
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq python3-venv >/dev/null
    else
        echo "This Python cannot make virtual environments. As root, run:" >&2
        echo "    apt-get install python3-venv" >&2
        exit 1
    fi
fi

rm -rf "$directory"
"$python" -m venv "$directory"
