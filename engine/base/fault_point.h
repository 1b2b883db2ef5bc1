#pragma once

// Numbered places where a test may kill or fail us: GODWIT_FAULT_POINT=NAME=kill ends the process with
// SIGKILL when it reaches `fault_point("NAME")`, NAME=fail throws, NAME=stop raises SIGSTOP. Compiled to
// nothing without GODWIT_FAULT_POINTS.
namespace godwit {

#ifdef GODWIT_FAULT_POINTS
void fault_point(const char* name);
#else
inline void fault_point(const char*) {}
#endif

}  // namespace godwit
