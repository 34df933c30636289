#include "lib/image/scratch.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <string>

#include <catch2/catch.hpp>

#include "lib/image/files.h"
#include "lib/image/tool.h"
#include "tests/support/skip.h"
#include "tests/unit/lib_image/image_support.h"
#include "vmm/base/fault_plan.h"
#include "vmm/base/syscall.h"

using absl::StatusCode;
using namespace ramet::testing;

namespace {

constexpr uint64_t kSize = uint64_t{256} * 1024 * 1024;
constexpr uint64_t kSmallSize = uint64_t{32} * 1024 * 1024;

Bytes content_of(const ramet::UniqueFd& file, uint64_t size) {
  Bytes bytes(size);
  REQUIRE(ramet::sys::pread_exactly(file.get(), bytes, 0, "read the image").ok());
  return bytes;
}

}  // namespace

TEST_CASE("a scratch image is a sparse ext4 file without a name, the same each time") {
  const TempDir folder;
  const auto file = ramet::make_scratch_image(folder.path(), kSize);
  if (file.status().code() == StatusCode::kUnimplemented) {
    RAMET_SKIP(std::string(file.status().message()));
  }
  REQUIRE(file.ok());
  struct stat info = {};
  REQUIRE(::fstat(file->get(), &info) == 0);
  CHECK(static_cast<uint64_t>(info.st_size) == kSize);
  CHECK(info.st_nlink == 0);
  CHECK(static_cast<uint64_t>(info.st_blocks) * 512 < kSize / 100);
  CHECK(ramet::list_folder(folder.path())->empty());
  CHECK((::fcntl(file->get(), F_GETFD) & FD_CLOEXEC) != 0);
  const auto small = ramet::make_scratch_image(folder.path(), kSmallSize);
  const auto again = ramet::make_scratch_image(folder.path(), kSmallSize);
  REQUIRE((small.ok() && again.ok()));
  CHECK(content_of(*small, kSmallSize) == content_of(*again, kSmallSize));
}

TEST_CASE("e2fsck finds nothing wrong with a scratch image, whose groups need no clearing") {
  const TempDir folder;
  const auto file = ramet::make_scratch_image(folder.path(), kSize);
  if (file.status().code() == StatusCode::kUnimplemented) {
    RAMET_SKIP(std::string(file.status().message()));
  }
  REQUIRE(file.ok());
  ramet::ToolRun run;
  run.name = "e2fsck";
  run.package = "e2fsprogs";
  run.arguments = {"-fn", ramet::kInheritedPath};
  run.inherited_fd = file->get();
  CHECK(ramet::run_tool(run).status() == ramet::Status());
  run.name = "dumpe2fs";
  run.arguments = {ramet::kInheritedPath};
  const auto text = ramet::run_tool(run);
  REQUIRE(text.ok());
  CHECK(text->find("extent") != std::string::npos);
  CHECK(text->find("has_journal") == std::string::npos);
  CHECK(text->find("metadata_csum") == std::string::npos);
  size_t groups = 0;
  size_t zeroed = 0;
  for (size_t at = text->find("\nGroup "); at != std::string::npos;
       at = text->find("\nGroup ", at + 1)) {
    const std::string line = text->substr(at + 1, text->find('\n', at + 1) - at - 1);
    if (line.find("(Blocks ") == std::string::npos) {
      continue;  // "Group descriptor size"
    }
    ++groups;
    zeroed += line.find("ITABLE_ZEROED") == std::string::npos ? 0 : 1;
  }
  CHECK(groups == 2);
  CHECK(zeroed == groups);
}

TEST_CASE("a scratch image that cannot be made is a Status and leaves nothing") {
  const TempDir folder;
  CHECK(ramet::make_scratch_image(folder.path(), 0).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(ramet::make_scratch_image(folder.path(), ramet::kMinScratchBytes + 1).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(ramet::make_scratch_image(folder.path(), ramet::kMaxScratchBytes * 2).status().code() ==
        StatusCode::kInvalidArgument);
  CHECK(ramet::make_scratch_image(folder / "no/such", ramet::kMinScratchBytes).status().code() ==
        StatusCode::kNotFound);
  for (const auto call :
       {ramet::sys::Call::kOpen, ramet::sys::Call::kFtruncate, ramet::sys::Call::kSpawn}) {
    ramet::sys::FaultPlan plan(call, 1, ENOSPC);
    plan.arm();
    const auto status = ramet::make_scratch_image(folder.path(), ramet::kMinScratchBytes).status();
    plan.disarm();
    CHECK(status.code() == StatusCode::kResourceExhausted);
    CHECK(std::string(status.message()).find(folder.path()) != std::string::npos);
    CHECK(ramet::list_folder(folder.path())->empty());
  }
}

TEST_CASE("a file system without O_TMPFILE gets a named file that is unlinked at once") {
  const TempDir folder;
  ramet::sys::FaultPlan plan(ramet::sys::Call::kOpen, 1, EOPNOTSUPP);
  plan.arm();
  const auto file = ramet::make_scratch_image(folder.path(), ramet::kMinScratchBytes);
  plan.disarm();
  if (file.status().code() == StatusCode::kUnimplemented) {
    RAMET_SKIP(std::string(file.status().message()));
  }
  CHECK(file.status() == ramet::Status());
  CHECK(ramet::list_folder(folder.path())->empty());
}

TEST_CASE("without mke2fs a scratch image is Unimplemented, naming the package") {
  const TempDir folder;
  // access(2) is how the program is looked for.
  ramet::sys::FaultPlan plan(ramet::sys::Call::kStat, 1, ENOENT, true);
  plan.arm();
  const auto status = ramet::make_scratch_image(folder.path(), ramet::kMinScratchBytes).status();
  plan.disarm();
  CHECK(status.code() == StatusCode::kUnimplemented);
  CHECK(std::string(status.message()).find("e2fsprogs") != std::string::npos);
  CHECK(ramet::list_folder(folder.path())->empty());
}
