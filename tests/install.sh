#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs those of Debian's packages that are missing; installs and asks nothing when all are there.
#
#   tests/install.sh FILE …      each FILE names one package a line; lines that begin with # are comments
set -eu
[ $# -gt 0 ] || { sed -n '3,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
command -v dpkg-query >/dev/null || { echo "dpkg-query is missing: this works on Debian only" >&2; exit 1; }

# With the names that packages provide: pkg-config is one of pkgconf's.
present=$(dpkg-query -W -f '${db:Status-Status} ${Package}, ${Provides},\n' | sed -n 's/^installed / /p')
wanted=$(cat "$@")
missing=()
while read -r package; do
    case $package in "" | \#*) continue ;; esac
    grep -qF -e " $package," -e " $package (" <<<"$present" || missing+=("$package")
done <<<"$wanted"
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" -ne 0 ]; then
    echo "These packages are missing, and only root can install them: ${missing[*]}" >&2
    echo "Run this as root:  apt-get install --no-install-recommends ${missing[*]}" >&2
    exit 1
fi
echo "installing: ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { apt-get update && apt-get install --yes --no-install-recommends "${missing[@]}"; } >"$log" 2>&1 </dev/null; then
    tail -n 20 "$log" >&2
    echo "apt-get could not install: ${missing[*]}" >&2
    exit 1
fi
