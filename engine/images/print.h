#pragma once

#include <iosfwd>
#include <string>

// What `criu show` prints.
namespace godwit::images {

enum class PrintFormat { kText, kJson };

// Prints an image file, whose kind its magic number tells (for raw files, its name). Text is for reading:
// addresses in hexadecimal, flags as words. JSON is crit's: {"magic": "CORE", "entries": [{...}, ...]}.
// `contents` says whether payloads are printed (JSON: base64 in "extra", as crit; text: a dump) or only their
// sizes. Throws SystemError if the file cannot be read, FormatError where it is damaged; what stands before
// the damage has been printed by then.
void print_image(std::ostream& out, const std::string& path, PrintFormat format, bool contents);

// Prints every image of a directory, in the order of names: text with a heading each, JSON as one object with
// the file names as keys. A damaged file does not end it: its error is printed in its place, and false is
// returned.
bool print_directory(std::ostream& out, const std::string& path, PrintFormat format, bool contents);

}  // namespace godwit::images
