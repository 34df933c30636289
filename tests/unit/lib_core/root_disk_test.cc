// The root image: told apart from every other file.
#include "lib/core/root_disk.h"

#include <filesystem>

#include <catch2/catch.hpp>

#include "lib/instance/reasons.h"
#include "tests/unit/lib_store/store_support.h"

using namespace ramet;
using namespace ramet::testing;

TEST_CASE("an image is found again where it was, and elsewhere when told so") {
  TempDir folder;
  write_file(folder / "a.img", std::string(3 << 20, 'x'));
  const auto disk = open_root_disk(folder / "a.img");
  REQUIRE(disk.ok());
  CHECK(disk->reference.path == folder / "a.img");
  CHECK(disk->reference.size == 3 << 20);
  CHECK(reopen_root_disk(disk->reference, "").ok());
  std::filesystem::rename(folder / "a.img", folder / "b.img");
  CHECK(reason_of(reopen_root_disk(disk->reference, "").status()) == reason::kBadImage);
  const auto moved = reopen_root_disk(disk->reference, folder / "b.img");
  REQUIRE(moved.ok());
  CHECK(moved->reference.path == folder / "b.img");
}

TEST_CASE("an image with another byte or another size is another image") {
  TempDir folder;
  write_file(folder / "a.img", std::string(1 << 20, 'x'));
  const auto disk = open_root_disk(folder / "a.img");
  REQUIRE(disk.ok());
  flip_bit(folder / "a.img", 777'777);
  const auto altered = reopen_root_disk(disk->reference, "");
  CHECK(altered.status().code() == absl::StatusCode::kFailedPrecondition);
  CHECK(reason_of(altered.status()) == reason::kBadImage);
  CHECK(says(altered.status(), "is not the one the template was built on"));
  flip_bit(folder / "a.img", 777'777);
  CHECK(reopen_root_disk(disk->reference, "").ok());
  std::filesystem::resize_file(folder / "a.img", (1 << 20) + 4096);
  CHECK_FALSE(reopen_root_disk(disk->reference, "").ok());
}

TEST_CASE("an image that is missing, empty or a folder is refused; no image is none") {
  TempDir folder;
  write_file(folder / "empty", "");
  for (const std::string name : {"none", "empty", "."}) {
    const auto disk = open_root_disk(folder / name);
    INFO(disk.status());
    CHECK(reason_of(disk.status()) == reason::kBadImage);
  }
  const auto none = open_root_disk("");
  REQUIRE(none.ok());
  CHECK(none->file == nullptr);
  CHECK(reopen_root_disk({}, "/ignored").ok());
}
