/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A callout under a std::mutex, given by its operations; no loop, keel's own threads serve it. */
#include <condition_variable>
#include <mutex>

#include "keel.hh"

namespace {

class Timer {
public:
	Timer()
	{
		static const keel_lock_ops ops = {
			[](void *m) { static_cast<std::mutex *>(m)->lock(); },
			[](void *m) { static_cast<std::mutex *>(m)->unlock(); },
			[](void *m) { return static_cast<int>(static_cast<std::mutex *>(m)->try_lock()); },
			nullptr,
		};

		keel_callout_init_lock(&callout, &ops, &mutex, 0);
	}
	~Timer() { callout_drain(&callout); }
	Timer(const Timer &) = delete;
	Timer &operator=(const Timer &) = delete;

	/* Calls back every millisecond; waits until it was called so often. */
	void wait_for(int calls)
	{
		std::unique_lock<std::mutex> held(mutex);

		callout_reset_sbt(&callout, SBT_1MS, 0, fire, this, C_PREL(8));
		while (count < calls)
			called.wait(held);
	}
	int stop()
	{
		std::lock_guard<std::mutex> held(mutex);

		return callout_stop(&callout);
	}
	bool pending() { return callout_pending(&callout) != 0; }

	int count = 0;

private:
	/* Under the mutex, as keel takes it. */
	static void fire(void *arg)
	{
		Timer *self = static_cast<Timer *>(arg);

		self->count++;
		self->called.notify_one();
		callout_schedule_sbt(&self->callout, SBT_1MS, 0, 0);
	}
	std::mutex mutex;
	std::condition_variable called;
	::callout callout;
};

} /* namespace */

void callouts()
{
	keel::Library library;

	CHECK(keel_callout_start_threads(1) == 0);
	Timer timer;

	timer.wait_for(3);
	timer.stop();
	CHECK(timer.count >= 3);
	CHECK(!timer.pending());
}
