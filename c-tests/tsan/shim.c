/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* What Rust's instrumentation calls and gcc's ThreadSanitizer runtime lacks:
 * the runtime intercepts the plain functions just as well. */

#include <string.h>

void *__tsan_memcpy(void *to, const void *from, size_t n);
void *__tsan_memmove(void *to, const void *from, size_t n);
void *__tsan_memset(void *to, int c, size_t n);

void *__tsan_memcpy(void *to, const void *from, size_t n) { return memcpy(to, from, n); }
void *__tsan_memmove(void *to, const void *from, size_t n) { return memmove(to, from, n); }
void *__tsan_memset(void *to, int c, size_t n) { return memset(to, c, n); }
