#!/bin/sh
# SPDX-License-Identifier: ISC
set -e
cd "$(dirname "$0")"
exec autoreconf -fi
