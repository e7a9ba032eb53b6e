/* profile.h - where the time went, for people and as JSON.
 *
 * SPDX-License-Identifier: ISC */
#ifndef APPS_PROFILE_H
#define APPS_PROFILE_H

#include <jansson.h>
#include "ebm.h"

/* Measure the machine and print, to stdout, the profile of the device: by kind
 * of operation, then the steps that took most.  The exit status. */
int profile_print(ebm_context *context, ebm_backend *device);
/* The same with every step, added to an object as "profile"; object is returned. */
json_t *profile_add_json(json_t *object, ebm_backend *device);

#endif
