/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* For programs with a close() of their own, which the library's calls come to
 * as well: the system's. */
#ifndef CLOSE_H
#define CLOSE_H

#include <sys/syscall.h>
#include <unistd.h>

#if defined(__SANITIZE_THREAD__)
/* Its own close(), which forgets who used the number. */
int __interceptor_close(int fd);
#define system_close(fd) __interceptor_close(fd)
#else
#define system_close(fd) (int)syscall(SYS_close, fd)
#endif

#endif
