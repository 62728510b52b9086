/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Pools, by the inline fast paths in this file and by calls in the others. */
#define KEEL_INLINE
#include <string>
#include <vector>

#include "keel.hh"

namespace {

int alive;

struct alignas(64) Session {
	explicit Session(std::string who) : name(std::move(who)) { alive++; }
	~Session() { alive--; }
	std::string name;
};

} /* namespace */

void pools()
{
	keel::Library library;
	keel::Thread thread(0);
	keel::Pool<Session> sessions("session");
	keel_pool_stats stats;

	{
		std::vector<keel::Pool<Session>::Pointer> held;

		for (int i = 0; i < 100; i++) {
			held.push_back(sessions.make("session " + std::to_string(i)));
			CHECK(reinterpret_cast<std::size_t>(held.back().get()) % 64 == 0);
		}
		CHECK(held[42]->name == "session 42");
		CHECK(alive == 100);
		keel_pool_get_stats(sessions.get(), &stats);
		CHECK(stats.used == 100);
		CHECK(stats.used + stats.cached == stats.allocated);
	}
	CHECK(alive == 0);
	keel_pool_get_stats(sessions.get(), &stats);
	CHECK(stats.used == 0);

	/* What the inline path freed, the library's own function finds, and the other way round. */
	void *object = pool_zalloc(sessions.get());
	(pool_free)(sessions.get(), object);
	CHECK((pool_alloc)(sessions.get()) == object);
	pool_free(sessions.get(), object);
	CHECK(pool_alloc(sessions.get()) == object);
	pool_free(sessions.get(), object);
	pool_gc(nullptr);
}
