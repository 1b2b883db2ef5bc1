#pragma once

#include <map>
#include <memory>
#include <vector>

#include "engine/files/file_opener.h"
#include "engine/images/pagemap.h"
#include "engine/restore/restore.h"
#include "engine/task/task_part.h"
#include "engine/tree/births.h"
#include "engine/tree/image_tree.h"

namespace godwit::restore {

// A dump, read and checked against this machine, and the order in which it comes back to life. Nothing has
// been created or changed when it exists.
struct Plan {
  tree::ImageTree tree;
  std::vector<tree::BirthStep> births;
  std::vector<tree::GroupStep> groups;
  std::vector<images::PagemapChain> pages;  // one a task, an empty one for zombies
  std::unique_ptr<files::FileOpener> files;
  std::vector<std::unique_ptr<task::TaskPart>> parts;
};

// Throws FormatError for damaged images, RefusedError with every other obstacle.
Plan make_plan(const RestoreRequest& request);

}  // namespace godwit::restore
