# ebm_flags.m4 - SPDX-License-Identifier: ISC

# EBM_TRY_CFLAGS(flags, variable, [program]): variable = those of the flags, all
# or none, with which the compiler takes the program.
AC_DEFUN([EBM_TRY_CFLAGS],
[AC_MSG_CHECKING([whether $CC takes $1])
ebm_saved_CFLAGS=$CFLAGS
CFLAGS="$CFLAGS $1 -Werror"
AC_COMPILE_IFELSE([AC_LANG_SOURCE([m4_default([$3], [[int ebm_probe;]])])],
  [$2="$1"; AC_MSG_RESULT([yes])],
  [$2=; AC_MSG_RESULT([no])])
CFLAGS=$ebm_saved_CFLAGS
AC_SUBST([$2])])

# EBM_OPTIONAL(name, VARIABLE, pkg-config module, what for): --without-name;
# probed otherwise, an error only if asked for by --with-name.
AC_DEFUN([EBM_OPTIONAL],
[AC_ARG_WITH([$1], [AS_HELP_STRING([--without-$1], [do without $4])], [], [with_$1=auto])
have_$1=no
AS_IF([test "x$with_$1" != xno],
  [PKG_CHECK_MODULES([$2], [$3], [have_$1=yes],
    [AS_IF([test "x$with_$1" = xyes], [AC_MSG_ERROR([$3 was asked for and is missing])])])])
AS_IF([test "x$have_$1" = xyes], [AC_DEFINE([HAVE_$2], [1], [Define for $4.])])
AM_CONDITIONAL([HAVE_$2], [test "x$have_$1" = xyes])])

# POSIX threads, for the loader's workers.
AC_DEFUN([AX_PTHREAD_LITE],
[AC_SEARCH_LIBS([pthread_create], [pthread], [], [AC_MSG_ERROR([POSIX threads are missing])])])
