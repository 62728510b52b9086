/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A driver's timer as FreeBSD's code writes it, in a class. */
#include "keel.hh"

/* Last: it defines short names. */
#include <keel/compat/freebsd.h>

namespace {

class Driver {
public:
	Driver()
	{
		mtx_init(&mtx, "driver", NULL, MTX_DEF);
		cv_init(&cv, "driver");
		callout_init_mtx(&timer, &mtx, 0);
	}
	~Driver()
	{
		callout_drain(&timer);
		cv_destroy(&cv);
		mtx_destroy(&mtx);
	}
	Driver(const Driver &) = delete;
	Driver &operator=(const Driver &) = delete;

	void run(int wanted)
	{
		mtx_lock(&mtx);
		callout_reset(&timer, hz / 1000, tick, this);
		while (fired < wanted)
			cv_wait(&cv, &mtx);
		callout_stop(&timer);
		mtx_unlock(&mtx);
	}
	int fired = 0;

private:
	static void tick(void *arg)
	{
		Driver *self = static_cast<Driver *>(arg);

		mtx_assert(&self->mtx, MA_OWNED);
		self->fired++;
		cv_signal(&self->cv);
		callout_schedule(&self->timer, 1);
	}
	struct mtx mtx;
	struct cv cv;
	struct callout timer;
};

} /* namespace */

void freebsd()
{
	keel::Library library;

	CHECK(keel_callout_start_threads(1) == 0);
	Driver driver;

	driver.run(3);
	CHECK(driver.fired >= 3);
	CHECK(sbttons(SBT_1S) == 1000000000);
}
