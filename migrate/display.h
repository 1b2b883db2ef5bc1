#pragma once

#include <cstdio>
#include <string>

#include "migrate/move_report.h"

namespace godwit::migrate {

// What the operator sees while a move runs: a line for each round and step, and on a terminal the step that
// is under way. Lines go to `out`; never throws.
class Display {
 public:
  explicit Display(std::FILE* out);
  ~Display();

  void beginning(const MoveReport& report);
  void preflight(const MoveReport& report);
  // Shown on a terminal until the next line.
  void under_way(const std::string& what);
  void round(unsigned number, const MoveReport::Round& round);
  void rounds_end(const std::string& why);
  // "freeze      3.2 ms  REMARK"
  void step(const char* name, double seconds, const std::string& remark = "");
  void line(const std::string& text);
  void summary(const MoveReport& report);

 private:
  std::FILE* out_;
  bool terminal_;
  bool transient_ = false;  // a line that the next one replaces
  bool table_begun_ = false;
};

}  // namespace godwit::migrate
