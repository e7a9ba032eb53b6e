#!/bin/sh
# test_fuse_vulkan.sh - random programs on Vulkan's first device, which pretends to
# the limits that the specification guarantees and to memory of its own.
#
# SPDX-License-Identifier: ISC
EBM_VULKAN_LIMITS=minimum EBM_TEST_BACKEND=${EBM_TEST_BACKEND:-vulkan:0} \
    exec "${builddir:-.}/tests/test_fuse"
