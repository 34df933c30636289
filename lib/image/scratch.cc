#include "lib/image/scratch.h"

#include <fcntl.h>

#include <algorithm>

#include <absl/strings/str_format.h>

#include "lib/image/tool.h"
#include "vmm/base/syscall.h"

namespace ramet {
namespace {

// Every scratch disk has these, so that one image serves every template.
constexpr char kUuid[] = "72616d65-7400-4000-8000-736372617463";
constexpr char kHashSeed[] = "72616d65-7400-4000-8000-686173687365";
// Seconds since 1970 that mke2fs takes for now (e2fsprogs: E2FSPROGS_FAKE_TIME). Not 0: that means
// unset.
constexpr char kFakeTime[] = "E2FSPROGS_FAKE_TIME=1577836800";
constexpr uint64_t kBytesPerInode = 32 * 1024;
constexpr uint64_t kMinInodes = 2048;

Status format(const std::string& path, uint64_t bytes) {
  ToolRun run;
  run.name = "mke2fs";
  run.package = "e2fsprogs";
  // No journal: a scratch disk never outlives its machine. Lazy tables: they are holes already.
  run.arguments = {
      "-q", "-F",
      "-t", "ext4",
      "-O", "^has_journal,^resize_inode",
      "-E", absl::StrFormat("lazy_itable_init=1,nodiscard,root_owner=0:0,hash_seed=%s", kHashSeed),
      "-b", absl::StrFormat("%d", kScratchBlockBytes),
      "-N", absl::StrFormat("%d", std::max(kMinInodes, bytes / kBytesPerInode)),
      "-m", "0",
      "-U", kUuid,
      path, absl::StrFormat("%d", bytes / kScratchBlockBytes)};
  run.environment = {kFakeTime, "MKE2FS_CONFIG=/dev/null", "LC_ALL=C"};
  return run_tool(run).status();
}

Status make_at(const std::string& path, uint64_t bytes) {
  {
    RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, sys::open(path, O_RDWR | O_CREAT | O_TRUNC, 0600));
    RAMET_RETURN_IF_ERROR(sys::ftruncate(fd.get(), bytes, absl::StrFormat("size %s", path)));
  }
  RAMET_RETURN_IF_ERROR(format(path, bytes));
  RAMET_ASSIGN_OR_RETURN(const UniqueFd fd, sys::open(path, O_RDWR));
  return sys::fsync(fd.get(), absl::StrFormat("fsync %s", path));
}

}  // namespace

Status make_scratch_image(const std::string& path, uint64_t bytes) {
  if (bytes < kMinScratchBytes || bytes > kMaxScratchBytes || bytes % kScratchBlockBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("scratch image of %d bytes: %d to %d, in blocks of %d, can be made", bytes,
                        kMinScratchBytes, kMaxScratchBytes, kScratchBlockBytes));
  }
  const std::string temporary = path + ".tmp";
  Status status = make_at(temporary, bytes);
  if (status.ok()) {
    status = sys::rename(temporary, path);
  }
  if (!status.ok()) {
    (void)sys::unlink(temporary);
    return annotate(status, absl::StrFormat("make the scratch image %s", path));
  }
  return status;
}

}  // namespace ramet
