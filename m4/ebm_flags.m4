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

# EBM_BLIS: BLIS, with or without pkg-config, and its version in
# BLIS_VERSION_BUILT, which only a program can ask for: none when cross-compiling.
AC_DEFUN([EBM_BLIS],
[AC_ARG_WITH([blis], [AS_HELP_STRING([--without-blis], [do without BLIS's matrix kernels])], [], [with_blis=auto])
have_blis=no
AS_IF([test "x$with_blis" != xno],
  [PKG_CHECK_MODULES([BLIS], [blis], [], [BLIS_CFLAGS= BLIS_LIBS=-lblis])
  AC_MSG_CHECKING([the version of BLIS])
  ebm_saved_CFLAGS=$CFLAGS ebm_saved_LIBS=$LIBS
  CFLAGS="$CFLAGS $BLIS_CFLAGS" LIBS="$LIBS $BLIS_LIBS"
  AC_RUN_IFELSE([AC_LANG_PROGRAM([[#include <stdio.h>
#include <blis.h>]], [[FILE *f = fopen("conftest.version", "w");
if (!f || fprintf(f, "%s", bli_info_get_version_str()) < 1 || fclose(f)) return 1;
sgemm_ukr_ft ukr = bli_cntx_get_l3_nat_ukr_dt(BLIS_FLOAT, BLIS_GEMM_UKR, (cntx_t *)bli_gks_query_cntx());
return !ukr;]])],
    [have_blis=yes blis_version=`cat conftest.version`
     AC_MSG_RESULT([$blis_version])
     AC_DEFINE_UNQUOTED([BLIS_VERSION_BUILT], ["$blis_version"], [The BLIS that was compiled against.])],
    [AC_MSG_RESULT([none that can be used])],
    [AC_MSG_RESULT([unknown, as this is another machine])])
  rm -f conftest.version
  CFLAGS=$ebm_saved_CFLAGS LIBS=$ebm_saved_LIBS
  AS_IF([test $have_blis = no],
    [BLIS_CFLAGS= BLIS_LIBS=
     AS_IF([test "x$with_blis" = xyes], [AC_MSG_ERROR([BLIS was asked for and cannot be used])])])])
AC_SUBST([BLIS_CFLAGS])
AC_SUBST([BLIS_LIBS])
AS_IF([test $have_blis = yes], [AC_DEFINE([HAVE_BLIS], [1], [Define for BLIS's matrix kernels.])])
AM_CONDITIONAL([HAVE_BLIS], [test $have_blis = yes])])

# POSIX threads, for the loader's workers.
AC_DEFUN([AX_PTHREAD_LITE],
[AC_SEARCH_LIBS([pthread_create], [pthread], [], [AC_MSG_ERROR([POSIX threads are missing])])])

# EBM_VULKAN: headers of Vulkan and a compiler of shaders; libvulkan itself is
# opened at run time.
AC_DEFUN([EBM_VULKAN],
[AC_ARG_ENABLE([vulkan], [AS_HELP_STRING([--disable-vulkan], [do without GPUs])], [], [enable_vulkan=auto])
have_vulkan=no
AS_IF([test "x$enable_vulkan" != xno],
  [AC_CHECK_HEADER([vulkan/vulkan_core.h], [vulkan_headers=yes], [vulkan_headers=no], [[ ]])
  AC_CHECK_PROGS([GLSL_COMPILER], [glslc glslangValidator], [no])
  AS_CASE([$GLSL_COMPILER],
    [glslc], [GLSL_COMPILE='glslc --target-env=vulkan1.1 -mfmt=num' GLSL_OUT=-o GLSL_QUIET=],
    [glslangValidator], [GLSL_COMPILE='glslangValidator --target-env vulkan1.1 -x' GLSL_OUT=-o GLSL_QUIET='>/dev/null'])
  EBM_DLOPEN
  AS_IF([test $vulkan_headers = yes && test "$GLSL_COMPILER" != no && test "$ac_cv_search_dlopen" != no],
    [have_vulkan=yes],
    [AS_IF([test "x$enable_vulkan" = xyes],
      [AC_MSG_ERROR([Vulkan was asked for; its headers, glslc or glslangValidator, and dlopen are needed])])])])
have_matrices=no
AS_IF([test $have_vulkan = yes], [EBM_COOPERATIVE_MATRIX])
AS_IF([test $have_matrices = yes],
  [AC_DEFINE([HAVE_COOPERATIVE_MATRIX], [1], [Define if headers and shaders know VK_KHR_cooperative_matrix.])])
AM_CONDITIONAL([HAVE_COOPERATIVE_MATRIX], [test $have_matrices = yes])
AC_SUBST([GLSL_COMPILE])
AC_SUBST([GLSL_OUT])
AC_SUBST([GLSL_QUIET])
AS_IF([test $have_vulkan = yes], [AC_DEFINE([HAVE_VULKAN], [1], [Define for the Vulkan backend.])])
AM_CONDITIONAL([HAVE_VULKAN], [test $have_vulkan = yes])])

# EBM_COOPERATIVE_MATRIX: do the headers and the compiler of shaders know them?  Debian
# 12's do not, Debian 13's do.
AC_DEFUN([EBM_COOPERATIVE_MATRIX],
[AC_CHECK_TYPE([VkPhysicalDeviceCooperativeMatrixFeaturesKHR],
  [AC_MSG_CHECKING([whether $GLSL_COMPILER knows GL_KHR_cooperative_matrix])
  cat >conftest.comp <<'END'
#version 450
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
layout(local_size_x = 32) in;
void main() { coopmat<float16_t, gl_ScopeSubgroup, 16, 16, gl_MatrixUseA> a; }
END
  AS_IF([$GLSL_COMPILE $GLSL_OUT conftest.inc conftest.comp >&AS_MESSAGE_LOG_FD 2>&1], [have_matrices=yes])
  rm -f conftest.comp conftest.inc
  AC_MSG_RESULT([$have_matrices])], [],
  [[#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>]])])

AC_DEFUN([EBM_DLOPEN], [AC_SEARCH_LIBS([dlopen], [dl])])
