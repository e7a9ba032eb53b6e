/* simplify_real.c - the library's simplify() under another name, so that
 * test_simplify.c can switch it off.
 *
 * SPDX-License-Identifier: ISC */
#define simplify simplify_real
#include "../lib/simplify.c"
