#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Puts the files that load and configure the module where the distribution's httpd looks for them, or takes them away.
#
#   apxs/layout.sh install|uninstall debian|rhel|none SOURCE CONFDIR LIBEXECDIR
#
# CONFDIR is /etc/apache2 or /etc/httpd, LIBEXECDIR httpd's directory of modules; DESTDIR stands before what is written.
set -eu
[ $# -eq 5 ] || { sed -n '3,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
what=$1 layout=$2 source=$3 root=${DESTDIR:-}$4 modules=$5

case $layout in
debian)
    load=$root/mods-available/intune_scep.load conf=$root/mods-available/intune_scep.conf
    link=../mods-available/intune_scep
    ;;
rhel)
    load=$root/conf.modules.d/10-intune-scep.conf conf=$root/conf.d/intune-scep.conf
    ;;
none) exit 0 ;;
*)
    echo "layout.sh: there is no layout $layout" >&2
    exit 2
    ;;
esac

# The administrator's changes stay.
if [ "$what" = install ]; then
    mkdir -p "${load%/*}" "${conf%/*}"
    case $layout in
    debian) sed "s|^LoadModule .*|LoadModule intune_scep_module $modules/mod_intune_scep.so|" "$source/apxs/intune_scep.load" ;;
    rhel) cat "$source/apxs/10-intune-scep.conf" ;;
    esac >"$load.new"
    chmod 644 "$load.new"
    mv "$load.new" "$load"
    if [ ! -e "$conf" ] || cmp -s "$source/conf/intune_scep.conf" "$conf"; then
        cp "$source/conf/intune_scep.conf" "$conf"
        chmod 644 "$conf"
    else
        cp "$source/conf/intune_scep.conf" "$conf.dist"
        chmod 644 "$conf.dist"
        echo "$conf has been changed: it stays as it is, and the new one is $conf.dist"
    fi
else
    if [ "$layout" = debian ]; then
        for suffix in load conf; do
            enabled=$root/mods-enabled/intune_scep.$suffix
            [ "$(readlink "$enabled" || true)" != "$link.$suffix" ] || rm -f "$enabled"
        done
    fi
    rm -f "$load" "$conf.dist"
    if cmp -s "$source/conf/intune_scep.conf" "$conf"; then
        rm -f "$conf"
    elif [ -e "$conf" ]; then
        echo "$conf has been changed, and is left"
    fi
fi
