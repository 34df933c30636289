#include "lib/agent/guest/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstring>

#include "vmm/base/unique_fd.h"

namespace ramet::guest {

void log(std::string_view line) {
  std::string text = "<4>ramet-agent: ";  // printk's level: warning, so that "quiet" keeps it
  text.append(line).push_back('\n');
  // Only init writes to the kernel's log: under test the host's stays clean.
  const UniqueFd kmsg(::getpid() == 1 ? ::open("/dev/kmsg", O_WRONLY | O_CLOEXEC) : -1);
  const std::string_view out =
      kmsg.valid() ? std::string_view(text) : std::string_view(text).substr(3);
  (void)!::write(kmsg.valid() ? kmsg.get() : STDERR_FILENO, out.data(), out.size());
}

std::string errno_text(std::string_view what, int error) {
  const char* description = ::strerrordesc_np(error);
  std::string text(what);
  text.append(": ").append(description != nullptr ? description : "unknown error");
  return text.append(" (errno ").append(std::to_string(error)).append(")");
}

}  // namespace ramet::guest
