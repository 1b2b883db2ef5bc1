#include "engine/commands/show.h"

#include <doctest/doctest.h>

#include <iostream>
#include <sstream>

#include "engine/base/error.h"
#include "engine/images/image_directory.h"
#include "proto/images/inventory.pb.h"
#include "tests/support/temporary_directory.h"

namespace godwit::commands {
namespace {

struct Result {
  int status;
  std::string output;
};

// Runs the command with its standard output caught.
Result run(const options::ShowOptions& options) {
  std::ostringstream out;
  std::streambuf* old = std::cout.rdbuf(out.rdbuf());
  try {
    int status = show(options);
    std::cout.rdbuf(old);
    return {status, out.str()};
  } catch (...) {
    std::cout.rdbuf(old);
    throw;
  }
}

TEST_CASE("show prints a file, a file of a directory, and a directory") {
  test::TemporaryDirectory dir;
  pb::inventory_entry inventory;
  inventory.set_img_version(2);
  images::ImageDirectory::open(dir.path()).write_inventory(inventory);

  options::ShowOptions options;
  options.file = dir / "inventory.img";
  CHECK(run(options).output == "INVENTORY\n{img_version: 2}\n");
  options.file = "inventory.img";
  options.directory = dir.path();
  options.json = true;
  CHECK(run(options).output == "{\"magic\": \"INVENTORY\", \"entries\": [\n{\"img_version\":2}\n]}\n");
  options.file.reset();
  options.json = false;
  Result all = run(options);
  CHECK(all.status == 0);
  CHECK(all.output == "inventory.img: INVENTORY\n{img_version: 2}\n");
  options.directory.reset();
  CHECK_THROWS_AS(run(options), UsageError);
}

}  // namespace
}  // namespace godwit::commands
