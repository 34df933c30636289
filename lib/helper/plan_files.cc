#include "lib/helper/plan_files.h"

#include <fcntl.h>

#include <algorithm>
#include <span>
#include <utility>
#include <vector>

#include <absl/strings/str_format.h>

#include "vmm/base/socket.h"
#include "vmm/base/syscall.h"
#include "vmm/memory/mapping.h"

namespace ramet::helper {
namespace {

// A descriptor of the same file that nothing can be written through, whatever the other may do.
StatusOr<UniqueFd> read_only(int fd) {
  return sys::open(absl::StrFormat("/proc/self/fd/%d", fd), O_RDONLY);
}

StatusOr<UniqueFd> write_plan(const PlanSource& source) {
  const auto bytes = encode_plan(*source.state, *source.disks, source.memory, *source.working_set);
  RAMET_ASSIGN_OR_RETURN(auto file, create_memfd("ramet-plan", 0));
  RAMET_RETURN_IF_ERROR(sys::write_all(file.get(), bytes, "write a plan for a helper process"));
  return file;
}

}  // namespace

StatusOr<PlanFiles> send_plan(RequestChannel* channel, const PlanSource& source,
                              uint64_t deadline_ns) {
  PlanFiles files;
  RAMET_ASSIGN_OR_RETURN(files.plan, write_plan(source));
  std::vector<UniqueFd> owned;
  std::vector<int> numbers;
  for (const int fd : files_of(*source.disks, source.memory)) {
    RAMET_ASSIGN_OR_RETURN(UniqueFd file, read_only(fd));
    numbers.push_back(file.get());
    owned.push_back(std::move(file));
  }
  for (std::span<const int> left(numbers); !left.empty();) {
    const auto part = left.first(std::min(left.size(), kMaxMessageFiles));
    RAMET_RETURN_IF_ERROR(channel->request(Files{}, deadline_ns, part));
    left = left.subspan(part.size());
  }
  RAMET_ASSIGN_OR_RETURN(files.memory, read_only(source.memory.fd));
  return files;
}

}  // namespace ramet::helper
