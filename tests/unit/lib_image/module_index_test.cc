#include "lib/image/module_index.h"

#include <algorithm>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

using absl::StatusCode;
using ramet::ModuleIndex;
using ramet::ModuleStep;

namespace {

constexpr char kDepmod[] =
    "# Aliases extracted from modules themselves.\n"
    "kernel/drivers/virtio/virtio.ko:\n"
    "kernel/drivers/virtio/virtio_ring.ko: kernel/drivers/virtio/virtio.ko\n"
    "kernel/drivers/virtio/virtio_mmio.ko.xz: kernel/drivers/virtio/virtio_ring.ko "
    "kernel/drivers/virtio/virtio.ko\n"
    "kernel/lib/libcrc32c.ko:\n"
    "kernel/fs/erofs/erofs.ko: kernel/lib/libcrc32c.ko\n"
    "kernel/arch/x86/crypto/crc32c-intel.ko:\n"
    "kernel/crypto/crc32c_generic.ko:\n"
    "kernel/fs/odd-name.ko:\n"
    "alias crypto-crc32c crc32c_intel\n"
    "alias crypto-crc32c crc32c_generic\n"
    "alias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n"
    "softdep libcrc32c pre: crypto-crc32c post: erofs\n"
    "softdep erofs lz4 pre: missing-thing\n"
    "autofs4 autofs c10:235\n";
constexpr char kBuiltin[] = "kernel/fs/ext4/ext4.ko\nkernel/crypto/crc32c_generic.ko\n\n";

ModuleIndex sample() {
  auto index = ModuleIndex::parse(kDepmod, kBuiltin);
  REQUIRE(index.ok());
  return *std::move(index);
}

std::vector<ModuleStep> order_of(const ModuleIndex& index, const std::vector<std::string>& names) {
  auto order = index.load_order(names);
  REQUIRE(order.ok());
  return *std::move(order);
}

}  // namespace

TEST_CASE("module_name drops folder and extensions and makes - and _ equal") {
  CHECK(ramet::module_name("kernel/a/foo-bar.ko.xz") == "foo_bar");
  CHECK(ramet::module_name("foo_bar") == "foo_bar");
  CHECK(ramet::module_name("a/b.ko") == "b");
  CHECK(ramet::module_name("").empty());
}

TEST_CASE("dependencies come before what needs them, each once") {
  const auto order = order_of(sample(), {"virtio_mmio", "virtio-ring"});
  CHECK(order == std::vector<ModuleStep>{{"kernel/drivers/virtio/virtio.ko", false},
                                         {"kernel/drivers/virtio/virtio_ring.ko", false},
                                         {"kernel/drivers/virtio/virtio_mmio.ko.xz", false}});
}

TEST_CASE("soft dependencies come first, by alias too, may fail, and are skipped when built in") {
  const auto order = order_of(sample(), {"erofs"});
  CHECK(order == std::vector<ModuleStep>{{"kernel/arch/x86/crypto/crc32c-intel.ko", true},
                                         {"kernel/lib/libcrc32c.ko", false},
                                         {"kernel/fs/erofs/erofs.ko", false}});
}

TEST_CASE("a soft dependency that is needed elsewhere may not fail") {
  const auto order = order_of(sample(), {"erofs", "crc32c_intel"});
  CHECK(order.front() == ModuleStep{"kernel/arch/x86/crypto/crc32c-intel.ko", false});
}

TEST_CASE("a module that is built in needs no loading, and one that is nowhere is NotFound") {
  const ModuleIndex index = sample();
  CHECK(order_of(index, {"ext4", "crc32c-generic"}).empty());
  CHECK(index.has("odd_name"));
  CHECK_FALSE(index.has("missing_thing"));
  const auto missing = index.load_order(std::vector<std::string>{"ext4", "squashfs"});
  CHECK(missing.status().code() == StatusCode::kNotFound);
  CHECK(std::string(missing.status().message()).find("squashfs") != std::string::npos);
}

TEST_CASE("a module path that leaves the folder is DataLoss") {
  for (const char* path : {"/etc/x.ko:", "../x.ko:", "kernel/../../x.ko: kernel/y.ko"}) {
    CHECK(ModuleIndex::parse(path, "").status().code() == StatusCode::kDataLoss);
  }
  CHECK(ModuleIndex::parse("kernel/..x/a.ko:", "").ok());
}

TEST_CASE("a circle of dependencies ends, and a chain that is too deep is DataLoss") {
  const auto circle = ModuleIndex::parse("a.ko: b.ko\nb.ko: a.ko\n", "");
  REQUIRE(circle.ok());
  CHECK(order_of(*circle, {"a"}).size() == 2);
  std::string deep;
  for (int i = 0; i < 1000; ++i) {
    deep += "m" + std::to_string(i) + ".ko: m" + std::to_string(i + 1) + ".ko\n";
  }
  const auto chain = ModuleIndex::parse(deep + "m1000.ko:\n", "");
  REQUIRE(chain.ok());
  CHECK(chain->load_order(std::vector<std::string>{"m0"}).status().code() == StatusCode::kDataLoss);
}

TEST_CASE("wanted modules are taken where they are, and they and what they need may fail") {
  const ModuleIndex index = sample();
  const std::vector<std::string> needed = {"virtio"};
  const std::vector<std::string> wanted = {"nowhere", "ext4", "erofs", "virtio_ring"};
  const auto order = index.load_order(needed, wanted);
  REQUIRE(order.ok());
  CHECK(*order == std::vector<ModuleStep>{{"kernel/drivers/virtio/virtio.ko", false},
                                          {"kernel/arch/x86/crypto/crc32c-intel.ko", true},
                                          {"kernel/lib/libcrc32c.ko", true},
                                          {"kernel/fs/erofs/erofs.ko", true},
                                          {"kernel/drivers/virtio/virtio_ring.ko", true}});
}

TEST_CASE("a dependency that is nowhere is NotFound, naming it and who needs it") {
  const auto index = ModuleIndex::parse("a.ko: b.ko c.ko\nb.ko:\n", "");
  REQUIRE(index.ok());
  const auto status = index->load_order(std::vector<std::string>{"a"}).status();
  CHECK(status.code() == StatusCode::kNotFound);
  CHECK(std::string(status.message()).find("module c, which a depends on") != std::string::npos);
}
