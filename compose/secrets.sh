#!/bin/sh
# usage: secrets.sh [DIRECTORY]    Make a random password for each secret of compose.yaml; one that exists is kept.
# The files are readable for all, because each container reads them as its own user; the directory is yours alone.
set -eu
directory=${1:-$(dirname "$0")/secrets}
mkdir -p "$directory"
chmod 700 "$directory"
for name in clickhouse_password mysql_password mysql_root_password; do
    file=$directory/$name
    [ -e "$file" ] && continue
    # A letter first: the collector's configuration would take a password of digits alone for a number.
    printf 'p%s' "$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')" >"$file"
    chmod 644 "$file"
done
