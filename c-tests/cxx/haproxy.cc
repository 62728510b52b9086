/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pools that are declared, as HAProxy's code does it, in a namespace and for a class. */
#include <keel/compat/haproxy.h>

#include "keel.hh"

namespace {

class Stream {
public:
	explicit Stream(int n) : number(n) {}
	void *operator new(std::size_t);
	void operator delete(void *);
	int number;
};

DECLARE_STATIC_TYPED_POOL(stream_pool, "stream", Stream, 8, 32);

void *Stream::operator new(std::size_t)
{
	return pool_alloc_flag(stream_pool, POOL_F_NO_FAIL);
}

void Stream::operator delete(void *p)
{
	pool_free(stream_pool, p);
}

} /* namespace */

void haproxy()
{
	keel::Library library;
	std::unique_ptr<Stream> stream(new Stream(42));

	CHECK(stream->number == 42);
	CHECK(stream_pool->size >= sizeof(Stream) + 8);
	CHECK(stream_pool->align == 32);
	CHECK(reinterpret_cast<std::size_t>(stream.get()) % 32 == 0);
	CHECK(compute_poll_timeout(TICK_ETERNITY) == 60000);
	CHECK(init_pollers() == 1);
	CHECK(ha_used_fds == 0);
}
