#include "engine/files/file_opener.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <set>

#include "engine/base/error.h"
#include "engine/files/description_state.h"
#include "engine/files/descriptor_install.h"
#include "engine/files/file_entries.h"

namespace godwit::files {
namespace {

// One descriptor table, ascending. Two descriptors of one number, or a number that no process can have, are
// errors.
std::vector<pb::fdinfo_entry> read_table(const images::ImageDirectory& images, uint32_t files_id) {
  auto reader = images.open(images::Kind::kFdinfo, files_id);
  std::vector<pb::fdinfo_entry> table = reader.read_all<pb::fdinfo_entry>();
  std::sort(table.begin(), table.end(), [](const auto& a, const auto& b) { return a.fd() < b.fd(); });
  for (size_t i = 0; i < table.size(); ++i) {
    if (table[i].fd() > uint32_t{INT32_MAX} || (i > 0 && table[i].fd() == table[i - 1].fd())) {
      throw FormatError("{}: descriptor {} comes twice or is no number",
                        images.name_of(images::Kind::kFdinfo, files_id), table[i].fd());
    }
  }
  return table;
}

rlim_t raise_descriptor_limit() {
  rlimit limit{};
  check(::getrlimit(RLIMIT_NOFILE, &limit), "getrlimit(RLIMIT_NOFILE)");
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    check(::setrlimit(RLIMIT_NOFILE, &limit), "setrlimit(RLIMIT_NOFILE)");
  }
  return limit.rlim_cur;
}

std::vector<WantedDescriptor> wanted_of(const std::vector<pb::fdinfo_entry>& table) {
  std::vector<WantedDescriptor> wanted;
  for (const auto& row : table) {
    wanted.push_back(
        {.number = static_cast<int>(row.fd()), .close_on_exec = (row.flags() & FD_CLOEXEC) != 0});
  }
  return wanted;
}

bool has_numbers(const std::vector<pb::fdinfo_entry>& table, const std::vector<int>& numbers) {
  std::set<uint32_t> there;
  for (const auto& row : table) there.insert(row.fd());
  return std::all_of(numbers.begin(), numbers.end(),
                     [&](int number) { return there.contains(static_cast<uint32_t>(number)); });
}

}  // namespace

FileOpener::FileOpener(kinds::FileKinds kinds, const kinds::Policy& policy,
                       const images::ImageDirectory& images, const std::vector<uint32_t>& files_ids)
    : kinds_(std::move(kinds)), policy_(policy), entries_(read_file_entries(images)) {
  for (uint32_t files_id : files_ids) {
    if (!tables_.contains(files_id)) tables_.emplace(files_id, read_table(images, files_id));
  }
  for (const auto& [files_id, table] : tables_) {
    for (const auto& row : table) {
      if (entry(row.id()).type() != row.type()) {
        throw FormatError("{}: descriptor {} and the open file with id {} are of different types",
                          images.name_of(images::Kind::kFdinfo, files_id), row.fd(), row.id());
      }
    }
  }
  for (const auto& kind : kinds_) kind->read_images(images);
  choose_holders(files_ids);
  raise_descriptor_limit();
}

kinds::FileKind* FileOpener::kind_of(const pb::file_entry& entry) const {
  for (const auto& kind : kinds_) {
    if (kind->type() == entry.type()) return kind.get();
  }
  return nullptr;
}

const pb::file_entry& FileOpener::entry(uint32_t id) const {
  auto found = entries_.find(id);
  if (found == entries_.end()) throw FormatError("files.img: there is no open file with id {}", id);
  return found->second;
}

const FileOpener::Table& FileOpener::table(uint32_t files_id) const {
  auto found = tables_.find(files_id);
  if (found == tables_.end()) throw Error("descriptor table {} was not read", files_id);
  return found->second;
}

void FileOpener::choose_holders(const std::vector<uint32_t>& files_ids) {
  // What a file needs, asked once per file: the lists of large epolls are long.
  std::map<uint32_t, std::vector<int>> needed;
  for (uint32_t files_id : files_ids) {
    const Table& rows = table(files_id);
    for (const auto& row : rows) {
      if (holders_.contains(row.id())) continue;
      kinds::FileKind* kind = kind_of(entry(row.id()));
      if (!kind) continue;
      auto [numbers, is_new] = needed.try_emplace(row.id());
      if (is_new) numbers->second = kind->numbers_needed(entry(row.id()));
      if (!numbers->second.empty() && !has_numbers(rows, numbers->second)) continue;
      holders_[row.id()] = {files_id, static_cast<int>(row.fd())};
    }
  }
}

void FileOpener::check_tables(kinds::Problems& problems) const {
  rlim_t limit = raise_descriptor_limit();
  for (const auto& [files_id, rows] : tables_) {
    auto wanted = wanted_of(rows);
    int highest = highest_number(install_steps(wanted));
    if (highest >= 0 && static_cast<rlim_t>(highest) >= limit) {
      problems.add(
          "descriptor {} is needed, and the hard limit of open files here is {}: raise it (ulimit -n)",
          highest, limit);
    }
    for (const auto& row : rows) {
      if (!holders_.contains(row.id()) && kind_of(entry(row.id()))) {
        problems.add("descriptor {} (open file {}) refers to descriptors that no process has beside it",
                     row.fd(), row.id());
      }
    }
  }
}

void FileOpener::plan(kinds::Problems& problems) {
  std::set<uint32_t> parts;  // entries that only another entry's kind opens
  for (const auto& [id, entry] : entries_) {
    if (entry.has_tty()) parts.insert(entry.tty().regf_id());
    if (entry.has_fifo()) parts.insert(entry.fifo().regf_id());
  }
  for (const auto& [id, entry] : entries_) {
    if (parts.contains(id)) continue;
    if (kinds::FileKind* kind = kind_of(entry)) {
      kind->plan(entry, policy_, problems);
    } else {
      problems.add("open file {} of type {} cannot be restored yet", id, pb::fd_types_Name(entry.type()));
    }
  }
  check_tables(problems);
}

int FileOpener::open(uint32_t id) {
  auto found = open_.find(id);
  if (found != open_.end()) return found->second.get();
  const pb::file_entry& file = entry(id);
  ErrorContext context{"open file {}", id};
  kinds::FileKind* kind = kind_of(file);
  if (!kind) throw RefusedError("type {} cannot be restored yet", pb::fd_types_Name(file.type()));
  Fd fd = kind->open(file, policy_);
  if (const pb::fown_entry* owner = owner_of(file)) set_owner_signal(fd.get(), *owner);
  return open_.emplace(id, std::move(fd)).first->second.get();
}

void FileOpener::open_all() {
  for (const auto& [files_id, rows] : tables_) {
    for (const auto& row : rows) open(row.id());
  }
}

const std::string& FileOpener::path_of(uint32_t id) const {
  const pb::file_entry& file = entry(id);
  if (!file.has_reg()) throw FormatError("the open file with id {} has no path", id);
  return file.reg().name();
}

std::vector<tracee::Batch> FileOpener::install_batches(uint32_t files_id, size_t max_calls) {
  const Table& rows = table(files_id);
  std::vector<WantedDescriptor> wanted = wanted_of(rows);
  for (size_t i = 0; i < rows.size(); ++i) wanted[i].source = open(rows[i].id());
  return files::install_batches(install_steps(wanted), ::getpid(), max_calls);
}

void FileOpener::add_finish_calls(uint32_t files_id, tracee::Batch& batch) {
  for (const auto& row : table(files_id)) {
    auto holder = holders_.find(row.id());
    if (holder == holders_.end() || holder->second.files_id != files_id ||
        holder->second.number != static_cast<int>(row.fd())) {
      continue;
    }
    const pb::file_entry& file = entry(row.id());
    ErrorContext context{"open file {}", row.id()};
    if (const pb::fown_entry* owner = owner_of(file)) set_owner(open(row.id()), *owner);
    kind_of(file)->finish_in_task(file, holder->second.number, batch);
  }
}

tracee::Batch::Result FileOpener::add_coordinator(tracee::Batch& batch) {
  return batch.call(SYS_pidfd_open, {::getpid(), 0});
}

tracee::Batch::Result FileOpener::add_get(tracee::Batch& batch, tracee::Batch::Argument coordinator,
                                          uint32_t id) {
  return batch.call(SYS_pidfd_getfd, {coordinator, open(id), 0});
}

}  // namespace godwit::files
