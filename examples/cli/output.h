// Writing to the standard descriptors, whole and unbuffered.
//
// Thread rule: call from anywhere; two writers may mix lines.
// Invariant: descriptors 0, 1 and 2 are open after open_standard_fds(), so that nothing the library
// opens can become what we print to.
#ifndef RAMET_EXAMPLES_CLI_OUTPUT_H_
#define RAMET_EXAMPLES_CLI_OUTPUT_H_

#include <optional>
#include <string>
#include <string_view>

namespace cli {

// Puts /dev/null where a standard descriptor is closed. True when descriptor 0 was open.
bool open_standard_fds();

// Writes all of `text`; false when it could not. A reader that went away ends the process by
// SIGPIPE, as for any other tool: the machine ends with it.
bool write_all(int fd, std::string_view text);
bool print_out(std::string_view text);
void print_err(std::string_view text);

bool is_terminal(int fd);
std::optional<std::string> environment_variable(const std::string& name);

}  // namespace cli

#endif  // RAMET_EXAMPLES_CLI_OUTPUT_H_
