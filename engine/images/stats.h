#pragma once

#include "engine/images/image_directory.h"
#include "proto/images/stats.pb.h"

// stats-dump and stats-restore, which stand in the work directory: times in microseconds, counts of pages.
namespace godwit::images {

void write_dump_stats(ImageDirectory& work_directory, const pb::dump_stats_entry& stats);
void write_restore_stats(ImageDirectory& work_directory, const pb::restore_stats_entry& stats);

// Throw SystemError if there are none, FormatError if the file is of the other kind.
pb::dump_stats_entry read_dump_stats(const ImageDirectory& work_directory);
pb::restore_stats_entry read_restore_stats(const ImageDirectory& work_directory);

}  // namespace godwit::images
