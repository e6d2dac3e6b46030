#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# make install in each layout puts the files where they belong, keeps what was changed, and make uninstall takes all away.
set -eu
unset MAKEFLAGS MFLAGS MAKELEVEL
root=$(mktemp -d)
trap 'rm -rf "$root"' EXIT
failed=0
cd "$ISCEP_BUILD"
modules=$(sed -n 's/^APXS_LIBEXECDIR = //p' Makefile)
prefix=$(sed -n 's/^prefix = //p' Makefile)

run() {
    make --no-print-directory "$1" "APACHE_LAYOUT=$2" "APACHE_CONFDIR=$3" "DESTDIR=$root" >"$root.log" 2>&1 && return
    cat "$root.log" >&2
    exit 1
}

# expect WHEN FILE …: exactly these files are below the root.
expect() {
    when=$1
    shift
    wanted=$(printf '%s\n' "$@" | sed '/^$/d' | sort)
    found=$(cd "$root" && find . -type f -o -type l | sed 's/^\.//' | sort)
    [ "$found" = "$wanted" ] && return
    printf '%s: found\n%s\nexpected\n%s\n' "$when" "$found" "$wanted" >&2
    failed=1
}

# check LAYOUT CONFDIR LOAD CONF
check() {
    layout=$1 confdir=$2 load=$3 conf=$4
    always="$modules/mod_intune_scep.so $prefix/sbin/intune-scepctl $prefix/share/man/man8/intune-scepctl.8"
    run install "$layout" "$confdir"
    expect "install $layout" $always $load $conf
    [ -z "$load" ] || grep -q '^LoadModule intune_scep_module .*mod_intune_scep.so$' "$root$load" || {
        echo "$load does not load the module" >&2
        failed=1
    }
    if [ -n "$conf" ]; then
        echo "# changed" >>"$root$conf"
        run install "$layout" "$confdir"
        expect "install $layout again" $always $load $conf $conf.dist
        run uninstall "$layout" "$confdir"
        expect "uninstall $layout after a change" $conf
        rm "$root$conf"
        run install "$layout" "$confdir"
    fi
    run uninstall "$layout" "$confdir"
    expect "uninstall $layout" ''
}

check debian /etc/apache2 /etc/apache2/mods-available/intune_scep.load /etc/apache2/mods-available/intune_scep.conf
check rhel /etc/httpd /etc/httpd/conf.modules.d/10-intune-scep.conf /etc/httpd/conf.d/intune-scep.conf
check none /usr/local/apache2/conf '' ''
rm -f "$root.log"
exit $failed
