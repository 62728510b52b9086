/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/*
 * Calls that fail when a test wants it. The program defines the functions of
 * libc that can run out of something, and so is asked before libc is: the
 * library's calls, or with whole_program everybody's, are counted, and the n-th
 * fails. What the library has not given back is known, too.
 */
#ifndef FAULTS_H
#define FAULTS_H

#ifndef _GNU_SOURCE
#error "define _GNU_SOURCE first"
#endif

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

/* What there may be none left of: memory and mappings, descriptors, what epoll
 * watches, threads. */
enum fault { NO_FAULT, MEMORY, DESCRIPTORS, WATCHES, THREADS };

static struct {
	atomic_int armed;       /* enum fault */
	atomic_int calls;       /* so many since it was armed */
	atomic_int failed;      /* of all */
	int first, last;        /* these fail */
	int error;              /* so */
	int whole_program;
	atomic_int *met;        /* if set, told that one has failed */
} faults;

/* --- whose call it is -------------------------------------------------------- */

static uintptr_t library_start, library_end;

static int note_library(struct dl_phdr_info *info, size_t size, void *arg)
{
	(void)size;
	(void)arg;
	if (!strstr(info->dlpi_name, "libkeel.so"))
		return 0;
	for (int i = 0; i < info->dlpi_phnum; i++) {
		const ElfW(Phdr) *part = &info->dlpi_phdr[i];

		if (part->p_type == PT_LOAD && part->p_flags & PF_X) {
			library_start = info->dlpi_addr + part->p_vaddr;
			library_end = library_start + part->p_memsz;
		}
	}
	return 1;
}

static __attribute__((constructor)) void find_library(void)
{
	dl_iterate_phdr(note_library, NULL);
	if (!library_start)
		abort();
}

static int is_library(const void *caller)
{
	return (uintptr_t)caller - library_start < library_end - library_start;
}

/* Whether this call has to fail; sets errno. */
static int fails(enum fault kind, const void *caller)
{
	int n;

	if (atomic_load(&faults.armed) != (int)kind || !(faults.whole_program || is_library(caller)))
		return 0;
	n = atomic_fetch_add(&faults.calls, 1) + 1;
	if (n < faults.first || n > faults.last)
		return 0;
	atomic_fetch_add(&faults.failed, 1);
	if (faults.met)
		atomic_store(faults.met, 1);
	errno = faults.error;
	return 1;
}

/* The <first> call from now on fails, and those after it up to <last>. */
static inline void arm(enum fault kind, int error, int first, int last)
{
	faults.first = first;
	faults.last = last;
	faults.error = error;
	atomic_store(&faults.calls, 0);
	atomic_store(&faults.armed, kind);
}

/* From now on none fails. */
static inline void disarm(void)
{
	atomic_store(&faults.armed, NO_FAULT);
}

/* --- what the library has ---------------------------------------------------- */

enum { PLACES = 1 << 15, REACH = 256 };
static _Atomic(void *) places[PLACES + REACH];
static atomic_int held;

static _Atomic(void *) *place_of(const void *area)
{
	return places + (((uintptr_t)area >> 4) * 0x9e3779b97f4a7c15u >> 49);
}

/* Notes it, if it is the library's. */
static void *note_area(void *area, const void *caller)
{
	if (!area || !is_library(caller))
		return area;
	atomic_fetch_add(&held, 1);
	for (int i = 0; i < REACH; i++) {
		void *none = NULL;

		if (atomic_compare_exchange_strong(&place_of(area)[i], &none, area))
			return area;
	}
	abort();
}

static void forget_area(void *area)
{
	for (int i = 0; area && i < REACH; i++) {
		void *found = area;

		if (atomic_load_explicit(&place_of(area)[i], memory_order_relaxed) == area &&
		    atomic_compare_exchange_strong(&place_of(area)[i], &found, NULL)) {
			atomic_fetch_sub(&held, 1);
			return;
		}
	}
}

/* --- the functions ----------------------------------------------------------- */

#define CALLER __builtin_return_address(0)

#ifdef __SANITIZE_ADDRESS__
#define real_malloc         __interceptor_malloc
#define real_calloc         __interceptor_calloc
#define real_free           __interceptor_free
int __interceptor_posix_memalign(void **out, size_t align, size_t size);
#else
#define real_malloc         __libc_malloc
#define real_calloc         __libc_calloc
#define real_free           __libc_free
void *__libc_memalign(size_t align, size_t size);
#endif
void *real_malloc(size_t size);
void *real_calloc(size_t n, size_t size);
void real_free(void *area);

void *malloc(size_t size)
{
	return fails(MEMORY, CALLER) ? NULL : note_area(real_malloc(size), CALLER);
}

void *calloc(size_t n, size_t size)
{
	return fails(MEMORY, CALLER) ? NULL : note_area(real_calloc(n, size), CALLER);
}

int posix_memalign(void **out, size_t align, size_t size)
{
	void *area = NULL;
	int saved = errno;

	/* It reports in its result, and leaves errno alone. */
	if (fails(MEMORY, CALLER)) {
		errno = saved;
		return faults.error;
	}
#ifdef __SANITIZE_ADDRESS__
	if (__interceptor_posix_memalign(&area, align, size) != 0)
		return ENOMEM;
#else
	area = __libc_memalign(align, size);
	if (!area)
		return ENOMEM;
#endif
	*out = note_area(area, CALLER);
	return 0;
}

void free(void *area)
{
	forget_area(area);
	real_free(area);
}

void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
	if (fails(MEMORY, CALLER))
		return MAP_FAILED;
	at = (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset);
	return at == MAP_FAILED ? at : note_area(at, CALLER);
}

int munmap(void *at, size_t size)
{
	forget_area(at);
	return (int)syscall(SYS_munmap, at, size);
}

int mprotect(void *at, size_t size, int protection)
{
	return fails(MEMORY, CALLER) ? -1 : (int)syscall(SYS_mprotect, at, size, protection);
}

int epoll_create1(int flags)
{
	return fails(DESCRIPTORS, CALLER) ? -1 : (int)syscall(SYS_epoll_create1, flags);
}

int epoll_ctl(int set, int op, int fd, struct epoll_event *event)
{
	return fails(WATCHES, CALLER) ? -1 : (int)syscall(SYS_epoll_ctl, set, op, fd, event);
}

int eventfd(unsigned int count, int flags)
{
	return fails(DESCRIPTORS, CALLER) ? -1 : (int)syscall(SYS_eventfd2, count, flags);
}

int signalfd(int fd, const sigset_t *mask, int flags)
{
	return fails(DESCRIPTORS, CALLER) ? -1 : (int)syscall(SYS_signalfd4, fd, mask, (size_t)8, flags);
}

int memfd_create(const char *name, unsigned int flags)
{
	return fails(DESCRIPTORS, CALLER) ? -1 : (int)syscall(SYS_memfd_create, name, flags);
}

int socket(int domain, int type, int protocol)
{
	return fails(DESCRIPTORS, CALLER) ? -1 : (int)syscall(SYS_socket, domain, type, protocol);
}

int accept4(int fd, struct sockaddr *from, socklen_t *len, int flags)
{
	return fails(DESCRIPTORS, CALLER) ? -1 : (int)syscall(SYS_accept4, fd, from, len, flags);
}

int open(const char *path, int flags, ...)
{
	va_list rest;
	mode_t mode;

	va_start(rest, flags);
	mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
	va_end(rest);
	return fails(DESCRIPTORS, CALLER) ? -1 : (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
}

int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*body)(void *), void *arg)
{
	static int (*_Atomic real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
	int saved = errno;

	if (fails(THREADS, CALLER)) {
		errno = saved;
		return faults.error;
	}
	if (!atomic_load(&real))
		atomic_store(&real, (__typeof__(*real) *)(uintptr_t)dlsym(RTLD_NEXT, "pthread_create"));
	return real(thread, attr, body, arg);
}

#endif
