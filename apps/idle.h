/* idle.h - threads that wait go to sleep soon.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_IDLE_H
#define EBM_IDLE_H

/* Call first in main(); returns when the environment says how threads wait. */
void idle_soon(char **argv);

#endif
