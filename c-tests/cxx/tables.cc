/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* A stick table: entries that give their reference back, and lock as std::lock_guard wants it. */
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <string>

#include "keel.hh"

namespace {

class Table {
public:
	explicit Table(const char *line) : table(keel_stktable_new("cxx", line, &error)) {}
	~Table()
	{
		keel_stktable_free(table);
		std::free(error);
	}
	Table(const Table &) = delete;
	Table &operator=(const Table &) = delete;

	char *error = nullptr;
	stktable *table;
};

class Entry {
public:
	Entry(stktable *t, std::uint32_t address) : table(t)
	{
		stktable_key key = { &address, sizeof(address) };

		entry = stktable_get_entry(table, &key);
		CHECK(entry != nullptr);
	}
	~Entry() { stktable_touch_local(table, entry, 1); }
	Entry(const Entry &) = delete;
	Entry &operator=(const Entry &) = delete;

	void lock() { stksess_wrlock(entry); }
	void unlock() { stksess_wrunlock(entry); }

	void count()
	{
		std::lock_guard<Entry> held(*this);

		stktable_data_cast(stktable_data_ptr(table, entry, STKTABLE_DT_CONN_CNT), std_t_uint)++;
		stktable_data_cast(stktable_data_ptr(table, entry, STKTABLE_DT_BYTES_IN_CNT), std_t_ull) += 1ULL << 33;
		update_freq_ctr_period(&rate(), 60000, 1);
	}
	unsigned int connections()
	{
		return stktable_data_cast(stktable_data_ptr(table, entry, STKTABLE_DT_CONN_CNT), std_t_uint);
	}
	unsigned long long bytes()
	{
		return stktable_data_cast(stktable_data_ptr(table, entry, STKTABLE_DT_BYTES_IN_CNT), std_t_ull);
	}
	unsigned int recent() { return read_freq_ctr_period(&rate(), 60000); }

private:
	freq_ctr &rate()
	{
		return *static_cast<freq_ctr *>(stktable_data_ptr(table, entry, STKTABLE_DT_CONN_RATE));
	}
	stktable *table;
	stksess *entry;
};

} /* namespace */

void tables()
{
	keel::Library library;
	Table sources("type ip size 100 expire 1m store conn_cnt,conn_rate(60s),bytes_in_cnt");
	Table wrong("type ip size many");

	CHECK(wrong.table == nullptr);
	CHECK(wrong.error != nullptr && std::string(wrong.error).find("many") != std::string::npos);
	if (!sources.table) {
		CHECK(sources.error == nullptr);
		return;
	}
	for (int i = 0; i < 3; i++)
		Entry(sources.table, 7).count();
	Entry(sources.table, 8).count();
	CHECK(keel_stktable_current(sources.table) == 2);
	CHECK(Entry(sources.table, 7).connections() == 3);
	CHECK(Entry(sources.table, 7).bytes() == 3ULL << 33);
	CHECK(Entry(sources.table, 7).recent() == 3);
	CHECK(Entry(sources.table, 8).connections() == 1);
	CHECK(stktable_find_by_name("cxx") == sources.table);
	CHECK(stktable_type_size(stktable_data_types[STKTABLE_DT_CONN_RATE].std_type) == sizeof(freq_ctr));
}
