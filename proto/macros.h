#pragma once

// Included before everything else in whatever uses the generated messages: the C library's <signal.h> has a
// macro with the name of a field of signalfd_entry.
#include <signal.h>
#undef sigmask
