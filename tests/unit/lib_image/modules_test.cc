#include "lib/image/modules.h"

#include <cerrno>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/image/files.h"
#include "lib/image/initramfs.h"
#include "lib/image/tool.h"
#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/unit/lib_image/image_support.h"
#include "vmm/base/fault_plan.h"

namespace fs = std::filesystem;
using absl::StatusCode;
using namespace ramet::testing;

namespace {

const ramet::InitramfsSpec kDefaults;

std::vector<ramet::LoadableModule> collect(const std::string& folder) {
  auto modules = ramet::collect_modules(folder, kDefaults.needed_modules, kDefaults.wanted_modules);
  REQUIRE(modules.status() == ramet::Status());
  return *std::move(modules);
}

// What the module itself says that it needs: the "depends=" of its .modinfo section.
std::vector<std::string> needs_of(const ramet::LoadableModule& module) {
  const std::string text = text_of(module.elf);
  const std::string key("\0depends=", 9);
  const size_t start = text.find(key);
  REQUIRE(start != std::string::npos);
  std::string list = text.c_str() + start + key.size();
  std::vector<std::string> names;
  while (!list.empty()) {
    const size_t comma = std::min(list.find(','), list.size());
    names.push_back(ramet::module_name(list.substr(0, comma)));
    list.erase(0, comma + 1);
  }
  return names;
}

}  // namespace

TEST_CASE("a module folder without modules.dep is given to depmod, which writes nothing there") {
  const TempDir folder;
  folder.write("usr/lib/modules/6.0-test/modules.order", "");
  folder.write("usr/lib/modules/6.0-test/modules.builtin", "kernel/fs/ext4/ext4.ko\n");
  const auto before = ramet::list_folder(folder / "usr/lib/modules/6.0-test");
  const auto index = ramet::read_module_index(folder / "usr/lib/modules/6.0-test");
  if (index.status().code() == StatusCode::kUnimplemented) {
    RAMET_SKIP("depmod is not installed");
  }
  REQUIRE(index.ok());
  CHECK(index->has("ext4"));
  CHECK(*ramet::list_folder(folder / "usr/lib/modules/6.0-test") == *before);
  folder.write("elsewhere/6.0-test/x", "");
  CHECK(ramet::read_module_index(folder / "elsewhere/6.0-test").status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("without depmod a folder without modules.dep is Unimplemented, naming the package") {
  const TempDir folder;
  folder.write("lib/modules/6.0-test/modules.order", "");
  // The first look at the file system is whether the folder is there; then depmod is looked for.
  ramet::sys::FaultPlan plan(ramet::sys::Call::kStat, 2, ENOENT, true);
  plan.arm();
  const auto status = ramet::read_module_index(folder / "lib/modules/6.0-test").status();
  plan.disarm();
  CHECK(status.code() == StatusCode::kUnimplemented);
  CHECK(std::string(status.message()).find("kmod") != std::string::npos);
}

TEST_CASE("modules of Debian's kernels come each after what it says it needs, softly too") {
  for (const char* name : {"cloud-6.1", "cloud-6.12"}) {
    const std::string folder = kernel_dir(name) + "/modules";
    if (!fs::exists(folder)) {
      RAMET_SKIP(std::string(name) + " is not there (tests/support/fetch-kernels)");
    }
    std::vector<std::string> loaded;
    const auto is_loaded = [&loaded](const std::string& module) {
      return std::ranges::find(loaded, module) != loaded.end();
    };
    const auto index = ramet::read_module_index(folder);
    REQUIRE(index.ok());
    for (const ramet::LoadableModule& module : collect(folder)) {
      INFO(name << ": " << module.name);
      for (const std::string& need : needs_of(module)) {
        INFO("needs " << need);
        CHECK(is_loaded(need));
      }
      if (module.name == "libcrc32c") {
        CHECK(is_loaded("crc32c_intel"));  // by the alias in its soft dependency
      }
      loaded.push_back(module.name);
      CHECK(module.may_fail == (module.name == "crc32c_intel" || module.name == "libcrc32c" ||
                                module.name == "erofs"));
    }
    for (const char* wanted :
         {"virtio_mmio", "virtio_blk", "vmw_vsock_virtio_transport", "overlay", "erofs"}) {
      CHECK(is_loaded(wanted));
    }
    CHECK(index->has("ext4"));
    CHECK_FALSE(is_loaded("ext4"));  // built in
  }
}

TEST_CASE("a package's tree as unpacked, without depmod's files, gives the same modules") {
  for (const char* name : {"cloud-6.1", "cloud-6.12"}) {
    const std::string from = kernel_dir(name) + "/modules";
    if (!fs::exists(from)) {
      RAMET_SKIP(std::string(name) + " is not there (tests/support/fetch-kernels)");
    }
    const TempDir folder;
    const std::string base = "lib/modules/" + fs::canonical(from).filename().string();
    fs::create_directories(folder / base);
    fs::create_directory_symlink(fs::canonical(from) / "kernel", folder / (base + "/kernel"));
    for (const char* file : {"modules.builtin", "modules.order", "modules.builtin.modinfo"}) {
      fs::copy_file(fs::path(from) / file, folder / (base + "/" + file));
    }
    const auto before = ramet::list_folder(folder / base);
    const auto ours = collect(folder / base);
    CHECK(*ramet::list_folder(folder / base) == *before);
    const auto theirs = collect(from);
    REQUIRE(ours.size() == theirs.size());
    for (size_t i = 0; i < ours.size(); ++i) {
      CHECK(ours[i].name == theirs[i].name);
      CHECK(ours[i].may_fail == theirs[i].may_fail);
      CHECK(ours[i].elf == theirs[i].elf);
    }
  }
}
