// Small whole files, as the agent meets them in /proc, /sys and /etc.
//
// Thread rule: free functions.
#ifndef RAMET_LIB_AGENT_GUEST_FILES_H_
#define RAMET_LIB_AGENT_GUEST_FILES_H_

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace ramet::guest {

inline constexpr size_t kMaxFileBytes = 1024 * 1024;

// The file's first kMaxFileBytes; nothing when it cannot be read (errno says why).
std::optional<std::string> read_file(const std::string& path);
// Replaces the content in place, so that open descriptors and bind mounts keep seeing the file.
// False when that failed (errno says why).
bool write_file(const std::string& path, std::string_view content);
// The same of a file that is open, which is never empty meanwhile.
bool rewrite(int fd, std::string_view content);
// The part of `text` before the first `separator`, which is cut off `text` with it.
std::string_view cut(std::string_view& text, char separator);

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_FILES_H_
