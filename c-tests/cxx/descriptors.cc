/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A descriptor that belongs to an object: its destructor deletes it. */
#include <sys/socket.h>
#include <unistd.h>

#include <string>

#include "keel.hh"

namespace {

class Reader {
public:
	explicit Reader(int number) : fd(number)
	{
		CHECK(fd_set_nonblock(fd) == 0);
		fd_insert(fd, this, [](int n) { static_cast<Reader *>(fdtab[n].owner)->readable(); }, 1);
		fd_want_recv(fd);
	}
	~Reader() { fd_delete(fd); }
	Reader(const Reader &) = delete;
	Reader &operator=(const Reader &) = delete;

	std::string text;
	bool over = false;

private:
	void readable()
	{
		char buffer[64];
		ssize_t n = read(fd, buffer, sizeof(buffer));

		if (n > 0)
			text.append(buffer, static_cast<std::size_t>(n));
		else if (n == 0)
			over = true;
		else
			fd_cant_recv(fd);
		if (over) {
			fd_stop_recv(fd);
			keel_stop();
		}
	}
	int fd;
};

} /* namespace */

void descriptors()
{
	keel::Library library;
	keel::Thread thread(0);
	int ends[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
	{
		std::unique_ptr<Reader> reader(new Reader(ends[0]));

		CHECK(keel_used_fds() == 1);
		CHECK(write(ends[1], "from C++", 8) == 8);
		CHECK(close(ends[1]) == 0);
		run_poll_loop();
		CHECK(reader->text == "from C++");
		CHECK(reader->over);
		CHECK(!(fdtab[ends[0]].state & FD_EV_ACTIVE_R));
	}
	CHECK(keel_used_fds() == 0);
	CHECK(close(ends[0]) == -1);
}
