#pragma once

#include <string>

#include "pageserver/server.h"

namespace godwit::pageserver {

// Received pages go into this image directory, which must exist, in files numbered as criu's page server does
// (pages-65537.img on). Its `parent` link, if it has one, leads to the images of the round before. The files
// of a connection that fails are removed. One connection at a time may use a directory.
Store directory_store(const std::string& path);

}  // namespace godwit::pageserver
