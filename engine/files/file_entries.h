#pragma once

#include <cstdint>
#include <map>

#include "engine/images/image_directory.h"
#include "proto/images/fdinfo.pb.h"

namespace godwit::files {

// Every open file of a dump by its id: files.img, and what older CRIUs wrote into an image per kind
// (reg-files.img, pipes.img, inetsk.img, ...), as if it had been in files.img. Throws FormatError for an id
// that comes twice and for an entry without the part of its type.
std::map<uint32_t, pb::file_entry> read_file_entries(const images::ImageDirectory& images);

}  // namespace godwit::files
