/* SPDX-License-Identifier: Apache-2.0 */
/* The BPF target has no architecture of its own, so the generic definitions serve. */
#include <asm-generic/bitsperlong.h>
