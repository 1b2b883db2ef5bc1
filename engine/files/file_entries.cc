#include "engine/files/file_entries.h"

#include <utility>

#include "engine/base/error.h"

namespace godwit::files {
namespace {

using Entries = std::map<uint32_t, pb::file_entry>;
using images::Kind;

pb::file_entry& add(Entries& entries, pb::fd_types type, uint32_t id, const std::string& image) {
  auto [entry, is_new] = entries.try_emplace(id);
  if (!is_new) throw FormatError("{}: two open files have id {}", image, id);
  entry->second.set_type(type);
  entry->second.set_id(id);
  return entry->second;
}

// Reads an image of one kind, when there is one.
template <class Message>
void fold(const images::ImageDirectory& images, Kind kind, pb::fd_types type,
          Message* (pb::file_entry::*part)(), Entries& entries) {
  auto reader = images.open_if_exists(kind);
  if (!reader) return;
  while (auto message = reader->next<Message>()) {
    pb::file_entry& entry = add(entries, type, message->id(), images.name_of(kind));
    *(entry.*part)() = std::move(*message);
  }
}

// Even older CRIUs wrote the files that an epoll watches into an image of their own.
void fold_epoll_targets(const images::ImageDirectory& images, Entries& entries) {
  auto reader = images.open_if_exists(Kind::kEventpollTfd);
  if (!reader) return;
  while (auto target = reader->next<pb::eventpoll_tfd_entry>()) {
    auto epoll = entries.find(target->id());
    if (epoll == entries.end() || !epoll->second.has_epfd()) {
      throw FormatError("{}: there is no epoll {}", images.name_of(Kind::kEventpollTfd), target->id());
    }
    *epoll->second.mutable_epfd()->add_tfd() = std::move(*target);
  }
}

// Whether the part that belongs to the type is there. Types that we do not restore are refused later, by
// name.
bool has_its_part(const pb::file_entry& entry) {
  switch (entry.type()) {
    case pb::REG:
      return entry.has_reg();
    case pb::PIPE:
      return entry.has_pipe();
    case pb::INETSK:
      return entry.has_isk();
    case pb::EVENTFD:
      return entry.has_efd();
    case pb::EVENTPOLL:
      return entry.has_epfd();
    case pb::TIMERFD:
      return entry.has_tfd();
    case pb::TTY:
      return entry.has_tty();
    default:
      return true;
  }
}

}  // namespace

Entries read_file_entries(const images::ImageDirectory& images) {
  Entries entries;
  if (auto reader = images.open_if_exists(Kind::kFiles)) {
    while (auto message = reader->next<pb::file_entry>()) {
      pb::file_entry& entry = add(entries, message->type(), message->id(), images.name_of(Kind::kFiles));
      entry = std::move(*message);
      if (!has_its_part(entry)) {
        throw FormatError("{}: the entry with id {} lacks what its type {} needs",
                          images.name_of(Kind::kFiles), entry.id(), pb::fd_types_Name(entry.type()));
      }
    }
  }
  using Entry = pb::file_entry;
  fold<pb::reg_file_entry>(images, Kind::kRegFiles, pb::REG, &Entry::mutable_reg, entries);
  fold<pb::ext_file_entry>(images, Kind::kExtFiles, pb::EXT, &Entry::mutable_ext, entries);
  fold<pb::ns_file_entry>(images, Kind::kNsFiles, pb::NS, &Entry::mutable_nsf, entries);
  fold<pb::eventfd_file_entry>(images, Kind::kEventfdFile, pb::EVENTFD, &Entry::mutable_efd, entries);
  fold<pb::eventpoll_file_entry>(images, Kind::kEventpollFile, pb::EVENTPOLL, &Entry::mutable_epfd, entries);
  fold<pb::signalfd_entry>(images, Kind::kSignalfd, pb::SIGNALFD, &Entry::mutable_sgfd, entries);
  fold<pb::timerfd_entry>(images, Kind::kTimerfd, pb::TIMERFD, &Entry::mutable_tfd, entries);
  fold<pb::inotify_file_entry>(images, Kind::kInotifyFile, pb::INOTIFY, &Entry::mutable_ify, entries);
  fold<pb::fanotify_file_entry>(images, Kind::kFanotifyFile, pb::FANOTIFY, &Entry::mutable_ffy, entries);
  fold<pb::pipe_entry>(images, Kind::kPipes, pb::PIPE, &Entry::mutable_pipe, entries);
  fold<pb::fifo_entry>(images, Kind::kFifo, pb::FIFO, &Entry::mutable_fifo, entries);
  fold<pb::unix_sk_entry>(images, Kind::kUnixsk, pb::UNIXSK, &Entry::mutable_usk, entries);
  fold<pb::inet_sk_entry>(images, Kind::kInetsk, pb::INETSK, &Entry::mutable_isk, entries);
  fold<pb::packet_sock_entry>(images, Kind::kPacketsk, pb::PACKETSK, &Entry::mutable_psk, entries);
  fold<pb::netlink_sk_entry>(images, Kind::kNetlinkSk, pb::NETLINKSK, &Entry::mutable_nlsk, entries);
  fold<pb::tty_file_entry>(images, Kind::kTtyFiles, pb::TTY, &Entry::mutable_tty, entries);
  fold<pb::tunfile_entry>(images, Kind::kTunfile, pb::TUNF, &Entry::mutable_tunf, entries);
  fold_epoll_targets(images, entries);
  return entries;
}

}  // namespace godwit::files
