#include "lib/image/kernel_files.h"

#include <filesystem>
#include <string>

#include <catch2/catch.hpp>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/unit/lib_image/image_support.h"

namespace fs = std::filesystem;
using absl::StatusCode;
using namespace ramet::testing;

namespace {

bool says(const absl::Status& status, const std::string& text) {
  return std::string(status.message()).find(text) != std::string::npos;
}

}  // namespace

TEST_CASE("find_kernel takes the newest image that has modules, in either place") {
  const TempDir folder;
  folder.write("boot/config-6.1", "x");
  folder.write("boot/vmlinuz-6.9", "image");
  folder.write("usr/lib/modules/6.9/modules.order", "");
  folder.write("boot/vmlinuz-6.13", "image");  // without modules
  auto found = ramet::find_kernel("", folder.path() + "/");
  REQUIRE(found.ok());
  CHECK(found->release == "6.9");
  CHECK(found->image == folder / "boot/vmlinuz-6.9");
  CHECK(found->modules == folder / "usr/lib/modules/6.9");
  folder.write("boot/vmlinuz-6.12", "image");
  folder.write("lib/modules/6.12/modules.order", "");
  found = ramet::find_kernel("", folder.path());
  REQUIRE(found.ok());
  CHECK(found->release == "6.12");
  CHECK(found->modules == folder / "lib/modules/6.12");
}

TEST_CASE("find_kernel that finds none says where it looked and what to do") {
  const TempDir folder;
  auto status = ramet::find_kernel("", folder.path()).status();
  CHECK(status.code() == StatusCode::kNotFound);
  CHECK(says(status, folder / "boot"));
  folder.write("boot/vmlinuz-6.13", "image");
  status = ramet::find_kernel("", folder.path()).status();
  CHECK(status.code() == StatusCode::kNotFound);
  CHECK(says(status, "vmlinuz-6.13"));
  CHECK(says(status, folder / "usr/lib/modules"));
  CHECK(says(status, "dpkg -x"));
  fs::create_directories(folder / "boot/vmlinuz-6.14");
  fs::create_directories(folder / "lib/modules/6.14");
  CHECK(ramet::find_kernel("", folder.path()).status().code() == StatusCode::kNotFound);
}

TEST_CASE("find_kernel gives a named image the modules of its release, in its tree or another") {
  const TempDir folder;
  folder.write("a/boot/vmlinuz-6.9", "image");
  folder.write("a/lib/modules/6.9/modules.order", "");
  fs::create_symlink("boot/vmlinuz-6.9", folder / "a/vmlinuz");
  for (const char* name : {"a/boot/vmlinuz-6.9", "a/vmlinuz"}) {
    const auto found = ramet::find_kernel(folder / name, "");
    REQUIRE(found.ok());
    CHECK(found->image == folder / name);
    CHECK(found->release == "6.9");
    CHECK(fs::equivalent(found->modules, folder / "a/lib/modules/6.9"));
  }
  folder.write("b/lib/modules/6.9/modules.order", "");
  CHECK(ramet::find_kernel(folder / "a/boot/vmlinuz-6.9", folder / "b")->modules ==
        folder / "b/lib/modules/6.9");
}

TEST_CASE("find_kernel gives an image without a release in its name the tree's only modules") {
  const TempDir folder;
  folder.write("bzImage", "image");
  folder.write("tree/lib/modules/6.9/modules.order", "");
  CHECK(ramet::find_kernel(folder / "bzImage", folder / "tree")->release == "6.9");
  folder.write("tree/lib/modules/6.10/modules.order", "");
  const auto status = ramet::find_kernel(folder / "bzImage", folder / "tree").status();
  CHECK(status.code() == StatusCode::kNotFound);
  CHECK(says(status, folder / "tree"));
  CHECK(ramet::find_kernel(folder / "bzImage", "").status().code() == StatusCode::kNotFound);
}

TEST_CASE("find_kernel refuses a named image that is missing, and modules of another release") {
  const TempDir folder;
  CHECK(ramet::find_kernel(folder / "boot/vmlinuz-6.9", "").status().code() ==
        StatusCode::kNotFound);
  folder.write("boot/vmlinuz-6.9-ramet-test", "image");
  folder.write("lib/modules/6.8/modules.order", "");
  folder.write("lib/modules/6.7/modules.order", "");
  const auto status = ramet::find_kernel(folder / "boot/vmlinuz-6.9-ramet-test", "").status();
  CHECK(status.code() == StatusCode::kNotFound);
  CHECK(says(status, folder / "lib/modules/6.9-ramet-test"));
}

TEST_CASE("read_kernel_image tells missing, empty, too large and not a file apart") {
  const TempDir folder;
  folder.write("kernel", "image");
  CHECK(text_of(ramet::read_kernel_image(folder / "kernel").value()) == "image");
  CHECK(ramet::read_kernel_image(folder / "none").status().code() == StatusCode::kNotFound);
  folder.write("empty", "");
  CHECK(ramet::read_kernel_image(folder / "empty").status().code() == StatusCode::kInvalidArgument);
  CHECK(ramet::read_kernel_image(folder.path()).status().code() == StatusCode::kInvalidArgument);
  fs::resize_file(folder / "empty", ramet::kMaxKernelBytes + 1);
  const auto large = ramet::read_kernel_image(folder / "empty").status();
  CHECK(large.code() == StatusCode::kResourceExhausted);
  CHECK(says(large, std::to_string(ramet::kMaxKernelBytes)));
}

TEST_CASE("find_kernel finds Debian's kernels in their packages' trees") {
  for (const char* name : {"cloud-6.1", "cloud-6.12"}) {
    const std::string tree = kernel_dir(name);
    if (!fs::exists(tree + "/release")) {
      RAMET_SKIP(std::string(name) + " is not there (tests/support/fetch-kernels)");
    }
    const auto found = ramet::find_kernel("", tree);
    REQUIRE(found.ok());
    CHECK(fs::equivalent(found->image, tree + "/vmlinuz"));
    CHECK(fs::equivalent(found->modules, tree + "/modules"));
    const auto linked = ramet::find_kernel(tree + "/vmlinuz", "");
    REQUIRE(linked.ok());
    CHECK(linked->release == found->release);
    CHECK(ramet::read_kernel_image(found->image)->size() > 1'000'000);
  }
}
