#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The module and the tool are built so that mistakes in memory are hard to exploit. Debian's packages of Apache httpd
# are built like this, too. CPPFLAGS, CFLAGS and ours are in ISCEP_FLAGS.
set -eu
failed=0
complain() {
    echo "$1" >&2
    failed=1
}

for file in "$ISCEP_BUILD/mod_intune_scep.so" "$ISCEP_BUILD/intune-scepctl"; do
    segments=$(readelf -lW "$file")
    dynamic=$(readelf -dW "$file")
    symbols=$(readelf --dyn-syms -W "$file" | awk '$7 == "UND" {sub(/@.*/, "", $8); print $8}')
    echo "$segments" | grep -q 'GNU_RELRO' || complain "$file: no GNU_RELRO: what is relocated stays writable"
    echo "$dynamic" | grep -q 'BIND_NOW\|FLAGS_1.* NOW' || complain "$file: no BIND_NOW: the table of functions stays writable"
    echo "$segments" | grep -q 'GNU_STACK .* RW ' || complain "$file: the stack can be executed"
    ! echo "$segments" | grep -q 'LOAD .* RWE ' || complain "$file: memory is both writable and executable"
    ! echo "$dynamic" | grep -q 'TEXTREL' || complain "$file: the code is relocated, and so writable at start"
    echo "$segments" | grep -q 'Elf file type is DYN' || complain "$file: its addresses are fixed: not PIC or PIE"
    echo "$symbols" | grep -qx '__stack_chk_fail' || complain "$file: no stack protector"
    case " $ISCEP_FLAGS $(readelf -p .comment "$file") " in
    *" -O0 "* | *clang*) ;; # needs optimisation; clang calls the plain function where it sees that the size is right
    *" -O"*)
        echo "$symbols" | grep -v '^__stack_chk_fail$' | grep -q '^__.*_chk$' || complain "$file: no function of libc is checked (_FORTIFY_SOURCE)"
        ;;
    esac
done
exit $failed
