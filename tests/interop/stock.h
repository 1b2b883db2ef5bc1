#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tests/support/guest.h"
#include "tests/support/program.h"

namespace godwit::test {

// The two implementations that are put together.
inline const std::string kOurs = GODWIT_BUILD_DIR "/criu";
inline const std::string kStock = GODWIT_BUILD_DIR "/vm/stock/criu";  // get_stock.sh

// The lines of a log, of either, that tell what went wrong.
std::string errors_in(const std::string& path);

// Runs `program`, which must succeed; throws std::runtime_error with what it said and with the errors in its
// log, COMMAND.log in the directory of its -D.
void run_well(const std::string& program, const std::vector<std::string>& words);

// dump of the guest by either, into guest.directory(); no process is left afterwards.
void dump_with(const std::string& program, Guest& guest, const std::vector<std::string>& options = {});
// restore of what is in guest.directory() by either; the guest must go on.
void restore_with(const std::string& program, Guest& guest, const std::vector<std::string>& options = {});
// Waits until the tree that had these pids is gone.
void wait_until_gone(const std::vector<pid_t>& tree);

// The guest's failures after a move with stock 3.17.1 at one end, without those that are stock's.
std::string failures_of_ours(const Guest& guest, const std::string& restorer);

// What the pages-*.img of a directory take.
uintmax_t bytes_of_pages(const std::string& images);

// Waits until somebody listens on a TCP port of this network; asks the kernel, because a server of one
// connection must not be asked. Throws std::runtime_error after ten seconds.
void wait_for_listener(unsigned short port);

}  // namespace godwit::test
