dnl SPDX-License-Identifier: Apache-2.0
dnl ISCEP_APXS: finds apxs and asks it for httpd's and APR's flags.
AC_DEFUN([ISCEP_APXS], [
  AC_ARG_WITH([apxs], [AS_HELP_STRING([--with-apxs=PATH], [httpd's apxs, where it is not in the path])],
    [APXS=$withval], [AC_PATH_PROGS([APXS], [apxs apxs2], [no], [$PATH:/usr/sbin:/usr/local/apache2/bin])])
  AS_IF([test "$APXS" = no || ! test -x "$APXS"],
    [AC_MSG_ERROR([apxs, which builds modules for httpd, is missing: install Debian's package apache2-dev, or give --with-apxs=PATH])])
  APXS_LIBEXECDIR=`$APXS -q LIBEXECDIR`
  APXS_SYSCONFDIR=`$APXS -q SYSCONFDIR`
  APXS_HTTPD=`$APXS -q SBINDIR`/`$APXS -q PROGNAME`
  apr_config=`$APXS -q APR_CONFIG 2>/dev/null`
  apu_config=`$APXS -q APU_CONFIG 2>/dev/null`
  AS_IF([test -z "$apr_config"], [apr_config=apr-1-config])
  AS_IF([test -z "$apu_config"], [apu_config=apu-1-config])
  AS_IF([! $apu_config --version >/dev/null 2>&1],
    [AC_MSG_ERROR([apu-1-config is missing: install Debian's package libaprutil1-dev])])
  dnl Their headers are not ours to be warned of.
  APR_CPPFLAGS=`echo " $($apr_config --includes --cppflags) $($apu_config --includes)" | sed 's| -I| -isystem |g'`
  APR_LIBS="`$apu_config --link-ld --libs` `$apr_config --link-ld --libs`"
  HTTPD_CPPFLAGS="-isystem `$APXS -q INCLUDEDIR` `$APXS -q EXTRA_CPPFLAGS`"
  AC_SUBST([APXS])
  AC_SUBST([APXS_LIBEXECDIR])
  AC_SUBST([APXS_SYSCONFDIR])
  AC_SUBST([APXS_HTTPD])
  AC_SUBST([APR_CPPFLAGS])
  AC_SUBST([APR_LIBS])
  AC_SUBST([HTTPD_CPPFLAGS])

  AC_ARG_WITH([apache-layout],
    [AS_HELP_STRING([--with-apache-layout=debian|rhel|none|auto],
      [where make install puts the files that load and configure the module: mods-available, conf.modules.d and conf.d, nowhere; auto looks what is there])],
    [], [with_apache_layout=auto])
  AC_MSG_CHECKING([for the layout of httpd's configuration])
  AS_CASE([$with_apache_layout],
    [auto], [AS_IF([test -d "$APXS_SYSCONFDIR/mods-available"], [APACHE_LAYOUT=debian],
                   [test -d "`dirname "$APXS_SYSCONFDIR"`/conf.modules.d"], [APACHE_LAYOUT=rhel], [APACHE_LAYOUT=none])],
    [debian|rhel|none], [APACHE_LAYOUT=$with_apache_layout],
    [AC_MSG_ERROR([--with-apache-layout is debian, rhel, none or auto])])
  AS_IF([test $APACHE_LAYOUT = rhel], [APACHE_CONFDIR=`dirname "$APXS_SYSCONFDIR"`], [APACHE_CONFDIR=$APXS_SYSCONFDIR])
  AC_MSG_RESULT([$APACHE_LAYOUT])
  AC_SUBST([APACHE_LAYOUT])
  AC_SUBST([APACHE_CONFDIR])
])
