/* stop.h - Ctrl-C and SIGTERM: the first asks to stop, the second stops.
 *
 * SPDX-License-Identifier: ISC */
#ifndef EBM_STOP_H
#define EBM_STOP_H

#include <stdbool.h>

void stop_on_signals(void);
bool stop_asked(void);

#endif
