#include "lib/helper/program/fork_source.h"

#include <cstddef>
#include <utility>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"

namespace ramet::helper {
namespace {

StatusOr<std::vector<std::byte>> read_plan(int file) {
  RAMET_ASSIGN_OR_RETURN(const uint64_t size, sys::file_size(file, "a plan"));
  if (size > kMaxPlanBytes) {
    return absl::ResourceExhaustedError(
        absl::StrFormat("a plan of %d bytes; at most %d", size, kMaxPlanBytes));
  }
  std::vector<std::byte> bytes(size);
  RAMET_RETURN_IF_ERROR(sys::pread_exactly(file, bytes, 0, "read a plan"));
  return bytes;
}

}  // namespace

StatusOr<std::shared_ptr<const ForkSource>> read_source(UniqueFd memory, const UniqueFd& plan,
                                                        std::vector<UniqueFd> files) {
  RAMET_ASSIGN_OR_RETURN(const auto bytes, read_plan(plan.get()));
  auto source = std::make_shared<ForkSource>();
  RAMET_ASSIGN_OR_RETURN(source->plan, decode_plan(bytes, std::move(files)));
  source->memory = std::move(memory);
  source->plan.memory.fd = source->memory.get();
  return std::shared_ptr<const ForkSource>(std::move(source));
}

}  // namespace ramet::helper
