/* stop.c - Ctrl-C and SIGTERM: the first asks to stop, the second stops.
 *
 * SPDX-License-Identifier: ISC */
#include "config.h"
#include <signal.h>
#include <string.h>
#include "stop.h"

static volatile sig_atomic_t asked;

static void on_signal(int number)
{
    if (asked) {
        signal(number, SIG_DFL);
        raise(number);
    }
    asked = 1;
}

void stop_on_signals(void)
{
    struct sigaction action;

    memset(&action, 0, sizeof action);
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    /* a file too large is an error of write(), not the end */
    signal(SIGXFSZ, SIG_IGN);
}

bool stop_asked(void)
{
    return asked != 0;
}
