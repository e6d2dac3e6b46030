#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The module exports its module structure and nothing else.
set -e
names=$(nm -D --defined-only "$ISCEP_BUILD/mod_intune_scep.so" | awk '{print $3}' | grep -v '^__\|^_init$\|^_fini$' || true)
[ "$names" = intune_scep_module ] && exit 0
echo "exported: $names; expected: intune_scep_module" >&2
exit 1
