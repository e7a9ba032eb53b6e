/* idle.c - threads that wait go to sleep soon.
 *
 * SPDX-License-Identifier: ISC
 *
 * The threads of a loop wait for each other at its end.  GCC's OpenMP lets them
 * spin for milliseconds first: as fast as can be on an idle machine, but on a
 * busy one the spinning thread keeps the one it waits for off the processor.
 * On two cores with other work, one Langevin step of the digits took 21 to 36 ms
 * so, and 8 to 10 after 1000 turns of spinning; with the machine to itself both
 * took 3.  The run-time library reads its environment before main(), so the
 * program starts itself again, once. */
#include "config.h"
#include <stdlib.h>
#include <unistd.h>
#include "idle.h"

void idle_soon(char **argv)
{
#ifdef _OPENMP
    static const char *const chosen[] = { "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME" };

    for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++)
        if (getenv(chosen[i]))
            return;
    if (setenv("GOMP_SPINCOUNT", "1000", 1) == 0)
        execv("/proc/self/exe", argv);      /* where it fails, all goes on as it was */
#else
    (void)argv;
#endif
}
