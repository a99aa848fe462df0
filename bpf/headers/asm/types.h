/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/* The same for every 64-bit target: keeps the objects free of the host. */
#include <asm-generic/int-ll64.h>
