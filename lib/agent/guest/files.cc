#include "lib/agent/guest/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "vmm/base/unique_fd.h"

namespace ramet::guest {

std::optional<std::string> read_file(const std::string& path) {
  // Non-blocking: a guest may have put a FIFO where /etc/passwd was.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_NONBLOCK | O_CLOEXEC));
  if (!fd.valid()) {
    return std::nullopt;
  }
  std::string content;
  std::array<char, 4096> buffer;
  while (content.size() < kMaxFileBytes) {
    const ssize_t size = ::read(fd.get(), buffer.data(), buffer.size());
    if (size < 0 && errno == EINTR) {
      continue;
    }
    if (size < 0) {
      return std::nullopt;
    }
    if (size == 0) {
      break;
    }
    content.append(buffer.data(), static_cast<size_t>(size));
  }
  return content;
}

bool write_file(const std::string& path, std::string_view content) {
  const UniqueFd fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) {
    return false;
  }
  return ::write(fd.get(), content.data(), content.size()) == static_cast<ssize_t>(content.size());
}

bool rewrite(int fd, std::string_view content) {
  const auto size = static_cast<ssize_t>(content.size());
  struct stat now = {};
  return ::pwrite(fd, content.data(), content.size(), 0) == size && ::fstat(fd, &now) == 0 &&
         (now.st_size <= size || ::ftruncate(fd, size) == 0);
}

std::string_view cut(std::string_view& text, char separator) {
  const size_t end = text.find(separator);
  const std::string_view part = text.substr(0, end);
  text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  return part;
}

}  // namespace ramet::guest
