#include "engine/commands/show.h"

#include <iostream>

#include "engine/base/error.h"
#include "engine/images/print.h"

namespace godwit::commands {

int show(const options::ShowOptions& options) {
  using images::PrintFormat;
  PrintFormat format = options.json ? PrintFormat::kJson : PrintFormat::kText;
  bool whole = true;
  if (options.file) {
    bool in_directory = options.directory && !options.file->starts_with('/');
    images::print_image(std::cout, in_directory ? *options.directory + "/" + *options.file : *options.file,
                        format, options.page_contents);
  } else if (options.directory) {
    whole = images::print_directory(std::cout, *options.directory, format, options.page_contents);
  } else {
    throw UsageError("show: give a file (-f) or a directory (-D)");
  }
  std::cout.flush();
  if (!std::cout) throw Error("cannot write to standard output");
  return whole ? 0 : 1;
}

}  // namespace godwit::commands
