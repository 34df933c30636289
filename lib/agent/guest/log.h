// Lines for whoever looks at the guest's console.
//
// Thread rule: one thread (the agent has one).
#ifndef RAMET_LIB_AGENT_GUEST_LOG_H_
#define RAMET_LIB_AGENT_GUEST_LOG_H_

#include <string>
#include <string_view>

namespace ramet::guest {

// "ramet-agent: LINE" into the kernel's log, or to standard error where there is none. A problem is
// shown on the console also when the kernel boots "quiet"; a note is not.
void log(std::string_view problem);
void log_note(std::string_view note);
// "WHAT: No such file or directory (errno 2)".
std::string errno_text(std::string_view what, int error);

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_LOG_H_
