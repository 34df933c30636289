#include "lib/image/scratch.h"

#include <algorithm>

#include <absl/strings/str_format.h>

#include "lib/image/tool.h"
#include "vmm/base/syscall.h"
#include "vmm/base/unnamed_file.h"

namespace ramet {
namespace {

// Every scratch disk has these, so that one image serves every template.
constexpr char kUuid[] = "72616d65-7400-4000-8000-736372617463";
constexpr char kHashSeed[] = "72616d65-7400-4000-8000-686173687365";
// Seconds since 1970 that mke2fs takes for now (e2fsprogs: E2FSPROGS_FAKE_TIME). Not 0: that means
// unset.
constexpr char kFakeTime[] = "E2FSPROGS_FAKE_TIME=1577836800";
// "none" and then each by name: the host's mke2fs.conf must not decide. No journal: a scratch disk
// never outlives its machine. No checksums: they would need a crypto module in the guest.
constexpr char kFeatures[] =
    "none,dir_index,dir_nlink,extent,extra_isize,filetype,flex_bg,huge_file,large_file,"
    "sparse_super,uninit_bg,64bit";
constexpr uint64_t kBytesPerInode = 32 * 1024;
constexpr uint64_t kMinInodes = 2048;

Status format(int fd, uint64_t bytes) {
  ToolRun run;
  run.name = "mke2fs";
  run.package = "e2fsprogs";
  // The tables are holes: mke2fs finds that discarding makes zeros, and so neither writes them nor
  // leaves them for the guest's kernel to clear.
  run.arguments = {
      "-q",
      "-F",
      "-t",
      "ext4",
      "-O",
      kFeatures,
      "-E",
      absl::StrFormat("discard,lazy_itable_init=0,root_owner=0:0,hash_seed=%s", kHashSeed),
      "-b",
      absl::StrFormat("%d", kScratchBlockBytes),
      "-I",
      "256",
      "-N",
      absl::StrFormat("%d", std::max(kMinInodes, bytes / kBytesPerInode)),
      "-m",
      "0",
      "-U",
      kUuid,
      kInheritedPath,
      absl::StrFormat("%d", bytes / kScratchBlockBytes)};
  run.environment = {kFakeTime, "MKE2FS_CONFIG=/dev/null", "LC_ALL=C"};
  run.inherited_fd = fd;
  return run_tool(run).status();
}

StatusOr<UniqueFd> make_in(const std::string& directory, uint64_t bytes) {
  RAMET_ASSIGN_OR_RETURN(UniqueFd file, create_unnamed_file(directory, bytes));
  RAMET_RETURN_IF_ERROR(format(file.get(), bytes));
  RAMET_ASSIGN_OR_RETURN(const uint64_t size, sys::file_size(file.get(), "size of the file"));
  if (size != bytes) {
    return absl::InternalError(absl::StrFormat("mke2fs left %d bytes of %d", size, bytes));
  }
  return file;
}

}  // namespace

StatusOr<UniqueFd> make_scratch_image(const std::string& directory, uint64_t bytes) {
  if (bytes < kMinScratchBytes || bytes > kMaxScratchBytes || bytes % kScratchBlockBytes != 0) {
    return absl::InvalidArgumentError(
        absl::StrFormat("scratch image of %d bytes: %d to %d, in blocks of %d, can be made", bytes,
                        kMinScratchBytes, kMaxScratchBytes, kScratchBlockBytes));
  }
  auto file = make_in(directory, bytes);
  if (!file.ok()) {
    return annotate(file.status(), "make a scratch image in %s", directory);
  }
  return file;
}

}  // namespace ramet
