#include "vmm/loader/cmdline.h"

#include <span>

#include <absl/strings/str_format.h>

namespace ramet {

StatusOr<std::vector<std::byte>> encode_command_line(std::string_view command_line,
                                                     uint32_t limit) {
  if (command_line.size() > limit) {
    return absl::InvalidArgumentError(
        absl::StrFormat("command line of %u bytes is longer than the kernel's limit of %u",
                        command_line.size(), limit));
  }
  // A line feed would end a parameter for some parsers and not for others.
  const size_t bad = command_line.find_first_of(std::string_view("\0\n", 2));
  if (bad != std::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrFormat("command line has the byte 0x%02x at %u of %u", command_line[bad], bad,
                        command_line.size()));
  }
  const auto bytes = std::as_bytes(std::span(command_line));
  std::vector<std::byte> result(bytes.begin(), bytes.end());
  result.push_back(std::byte{0});
  return result;
}

}  // namespace ramet
