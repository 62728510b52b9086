/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* keel as a program in C++ wraps it: owners that free what they hold, and a library that is
 * started and stopped around each test. */
#ifndef KEEL_HH
#define KEEL_HH

#include <cstdio>
#include <memory>
#include <new>
#include <utility>

#include <keel/keel.h>

/* The test that runs, and whether all of its checks held. */
extern bool failed;

#define CHECK(what) \
	((what) ? void() : (failed = true, void(std::printf("# %s:%d: %s\n", __FILE__, __LINE__, #what))))

void pools();
void tasks();
void descriptors();
void tables();
void callouts();
void haproxy();
void freebsd();

namespace keel {

class Library {
public:
	explicit Library(unsigned int threads = 1)
	{
		keel_config cfg = KEEL_CONFIG_INIT;

		cfg.nbthread = threads;
		cfg.maxsock = 256;
		cfg.panic = [](const char *file, int line, const char *message, void *) {
			std::fprintf(stderr, "%s:%d: %s\n", file, line, message);
		};
		CHECK(keel_init(&cfg) == 0);
	}
	~Library() { keel_deinit(); }
	Library(const Library &) = delete;
	Library &operator=(const Library &) = delete;
};

/* The calling thread, registered for as long as this lives. */
class Thread {
public:
	explicit Thread(unsigned int id) { CHECK(keel_thread_enter(id) == 0); }
	~Thread() { keel_thread_leave(); }
	Thread(const Thread &) = delete;
	Thread &operator=(const Thread &) = delete;
};

/* A pool of objects that are constructed and destroyed. */
template <typename T> class Pool {
public:
	struct Free {
		pool_head *pool;
		void operator()(T *object) const
		{
			object->~T();
			pool_free(pool, object);
		}
	};
	typedef std::unique_ptr<T, Free> Pointer;

	explicit Pool(const char *name) : pool(create_aligned_pool(name, sizeof(T), alignof(T), MEM_F_EXACT)) {}
	~Pool() { CHECK(pool_destroy(pool) == nullptr); }
	Pool(const Pool &) = delete;
	Pool &operator=(const Pool &) = delete;

	template <typename... A> Pointer make(A &&...arguments)
	{
		void *memory = pool_alloc(pool);

		if (!memory)
			throw std::bad_alloc();
		return Pointer(new (memory) T(std::forward<A>(arguments)...), Free{ pool });
	}
	pool_head *get() const { return pool; }

private:
	pool_head *pool;
};

/* A task that calls a member function of its owner. */
template <typename T, void (T::*run)(unsigned int)> class Task {
public:
	explicit Task(T *owner, unsigned long threads) : task(task_new(threads))
	{
		CHECK(task != nullptr);
		task->context = owner;
		task->process = [](::task *t, void *context, unsigned int state) {
			(static_cast<T *>(context)->*run)(state);
			return t;
		};
	}
	~Task() { task_destroy(task); }
	Task(const Task &) = delete;
	Task &operator=(const Task &) = delete;

	::task *operator->() const { return task; }
	::task *get() const { return task; }

private:
	::task *task;
};

} /* namespace keel */

#endif
