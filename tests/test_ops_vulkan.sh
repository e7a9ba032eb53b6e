#!/bin/sh
# test_ops_vulkan.sh - every operation on Vulkan's first device, against the oracle.
#
# SPDX-License-Identifier: ISC
#
# A processor that plays a GPU will do (Mesa's lavapipe); validation layers too:
#   VK_INSTANCE_LAYERS=VK_LAYER_KHRONOS_validation sh tests/test_ops_vulkan.sh
EBM_TEST_BACKEND=${EBM_TEST_BACKEND:-vulkan:0} exec "${builddir:-.}/tests/test_ops"
