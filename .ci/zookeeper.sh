#!/bin/sh
# Install ZooKeeper from Debian's packages where that is possible: as root, with apt-get.
#
# Without it everything works but ZooKeeper as coordinator, and its tests are skipped, saying so.
set -eu

if [ -e /usr/share/java/zookeeper.jar ] && command -v java >/dev/null; then
    exit 0
fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing zookeeper"
    if apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends zookeeper default-jre-headless >/dev/null; then
        exit 0
    fi
fi
echo "ZooKeeper is not installed: its tests are SKIPPED. As root, run:" >&2
echo "    apt-get install zookeeper" >&2
