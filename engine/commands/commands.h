#pragma once

#include "engine/options/commands_options.h"

// The commands of `criu`. Each returns the exit status and throws godwit::Error when it fails; the caller has
// set up the log and the work directory (command_setup.h), so relative names in the options mean what the
// manual says.
namespace godwit::commands {

int dump(const options::DumpOptions& options);
int pre_dump(const options::PreDumpOptions& options);
int restore(const options::RestoreOptions& options);
int page_server(const options::PageServerCommandOptions& options);
int lazy_pages(const options::LazyPagesOptions& options);
int check(const options::CheckOptions& options);
int help(const options::HelpRequest& request);
int version();

}  // namespace godwit::commands
