dnl SPDX-License-Identifier: Apache-2.0
dnl ISCEP_TAKES(VARIABLE, FLAG): appends the flag to the variable if compiler and linker take it. Some compilers only warn of
dnl a flag that does nothing on this machine, hence -Werror.
AC_DEFUN([ISCEP_TAKES], [
  AC_MSG_CHECKING([whether $CC takes $2])
  iscep_cflags=$CFLAGS
  CFLAGS="$CFLAGS -Werror $2"
  AC_LINK_IFELSE([AC_LANG_PROGRAM()], [$1="$$1 $2"
    AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no])])
  CFLAGS=$iscep_cflags
])

dnl ISCEP_HARDENING: appends to ISCEP_CFLAGS, ISCEP_LDFLAGS and ISCEP_PIE (for programs) what makes mistakes in memory hard to
dnl exploit. Flags that a packager gives as well do no harm twice; only _FORTIFY_SOURCE is left to him where he sets it
dnl (or the compiler does by itself), since another value would be a redefinition. It needs optimisation.
AC_DEFUN([ISCEP_HARDENING], [
  ISCEP_TAKES([ISCEP_CFLAGS], [-fstack-protector-strong])
  ISCEP_TAKES([ISCEP_CFLAGS], [-fstack-clash-protection])
  ISCEP_TAKES([ISCEP_CFLAGS], [-fcf-protection])
  AC_MSG_CHECKING([whether _FORTIFY_SOURCE is left to us])
  AC_COMPILE_IFELSE([AC_LANG_SOURCE([[
#if defined(_FORTIFY_SOURCE) || !defined(__OPTIMIZE__)
#error "not ours"
#endif
]])], [ISCEP_CFLAGS="$ISCEP_CFLAGS -D_FORTIFY_SOURCE=2"
    AC_MSG_RESULT([yes])], [AC_MSG_RESULT([no])])
  ISCEP_TAKES([ISCEP_LDFLAGS], [-Wl,-z,relro])
  ISCEP_TAKES([ISCEP_LDFLAGS], [-Wl,-z,now])
  ISCEP_TAKES([ISCEP_LDFLAGS], [-Wl,-z,noexecstack])
  ISCEP_TAKES([ISCEP_PIE], [-pie])
])
