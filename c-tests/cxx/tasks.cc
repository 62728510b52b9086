/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Tasks and tasklets on two threads of keel's, woken by each other and by a std::thread. */
#include <atomic>
#include <thread>

#include "keel.hh"

namespace {

class Counter {
public:
	Counter() : task(this, 1), timers(0), messages(0)
	{
		tasklet_init(&soon);
		soon.context = this;
		soon.process = [](::task *t, void *context, unsigned int) {
			static_cast<Counter *>(context)->tasklets++;
			return t;
		};
		tasklet_set_tid(&soon, 1);
		task->expire = tick_add(static_cast<int>(keel_now_ms()), MS_TO_TICKS(5));
		task_wakeup(task.get(), TASK_WOKEN_INIT);
	}
	void message() { task_wakeup(task.get(), TASK_WOKEN_MSG); }

	void run(unsigned int state)
	{
		if (state & TASK_WOKEN_TIMER) {
			timers++;
			tasklet_wakeup(&soon);
		}
		if (state & TASK_WOKEN_MSG)
			messages++;
		if (timers >= 3 && messages && tasklets)
			keel_stop();
		else
			task->expire = tick_add(static_cast<int>(keel_now_ms()), MS_TO_TICKS(5));
	}

	keel::Task<Counter, &Counter::run> task;
	tasklet soon;
	int timers, messages;
	std::atomic<int> tasklets{ 0 };
};

} /* namespace */

void tasks()
{
	keel::Library library(2);
	std::atomic<unsigned int> started{ 0 };
	Counter counter;
	std::thread foreign([&counter] { counter.message(); });

	CHECK(keel_run([](unsigned int, void *arg) {
		++*static_cast<std::atomic<unsigned int> *>(arg);
		return 0;
	}, &started) == 0);
	foreign.join();
	CHECK(started == 2);
	CHECK(counter.timers >= 3);
	CHECK(counter.messages == 1);
	CHECK(counter.tasklets >= 1);
	CHECK(counter.task->calls >= 3);
}
