#include "engine/images/stats.h"

namespace godwit::images {
namespace {

pb::stats_entry read_stats(const ImageDirectory& directory, Kind kind) {
  return directory.open(kind).read_one<pb::stats_entry>();
}

}  // namespace

void write_dump_stats(ImageDirectory& work_directory, const pb::dump_stats_entry& stats) {
  pb::stats_entry entry;
  *entry.mutable_dump() = stats;
  work_directory.write_one(Kind::kStatsDump, 0, entry);
}

void write_restore_stats(ImageDirectory& work_directory, const pb::restore_stats_entry& stats) {
  pb::stats_entry entry;
  *entry.mutable_restore() = stats;
  work_directory.write_one(Kind::kStatsRestore, 0, entry);
}

pb::dump_stats_entry read_dump_stats(const ImageDirectory& work_directory) {
  pb::stats_entry entry = read_stats(work_directory, Kind::kStatsDump);
  if (!entry.has_dump())
    throw FormatError("{}: no statistics of a dump", work_directory.name_of(Kind::kStatsDump));
  return entry.dump();
}

pb::restore_stats_entry read_restore_stats(const ImageDirectory& work_directory) {
  pb::stats_entry entry = read_stats(work_directory, Kind::kStatsRestore);
  if (!entry.has_restore()) {
    throw FormatError("{}: no statistics of a restore", work_directory.name_of(Kind::kStatsRestore));
  }
  return entry.restore();
}

}  // namespace godwit::images
