#include "lib/image/initramfs.h"

#include <sys/stat.h>

#include <filesystem>
#include <string>

#include <catch2/catch.hpp>

#include "tests/unit/lib_image/cpio_reader.h"
#include "tests/unit/lib_image/image_support.h"
#include "vmm/loader/initrd.h"

namespace fs = std::filesystem;
using absl::StatusCode;
using namespace ramet::testing;

namespace {

ramet::InitramfsSpec small_spec(const Bytes& agent) {
  ramet::InitramfsSpec spec;
  spec.agent = agent;
  return spec;
}

// A module folder as a package has it, with depmod's files.
void make_modules(const TempDir& folder) {
  const std::string base = "lib/modules/6.0-test/";
  folder.write(base + "modules.dep",
               "kernel/virtio.ko:\nkernel/virtio_mmio.ko.xz: kernel/virtio.ko\n"
               "kernel/overlay.ko:\nkernel/virtio_blk.ko: kernel/virtio.ko\n");
  folder.write(base + "modules.builtin", "kernel/ext4.ko\nkernel/vmw_vsock_virtio_transport.ko\n");
  for (const char* name : {"virtio", "overlay", "virtio_blk"}) {
    folder.write(base + "kernel/" + name + ".ko", fake_elf(name));
  }
  folder.write(base + "kernel/virtio_mmio.ko.xz",
               text_of(pack_xz(bytes_of(fake_elf("virtio_mmio")))));
}

}  // namespace

TEST_CASE("an initramfs holds the agent as init, a console, and the modules in loading order") {
  const TempDir folder;
  make_modules(folder);
  const Bytes agent = bytes_of(fake_elf("agent"));
  ramet::InitramfsSpec spec = small_spec(agent);
  spec.modules_folder = folder / "lib/modules/6.0-test/";
  const auto archive = ramet::build_initramfs(spec);
  REQUIRE(archive.ok());
  auto items = read_cpio(*archive);
  CHECK(items["init"].mode == (S_IFREG | 0755));
  CHECK(items["init"].content == text_of(agent));
  CHECK(items["dev/console"].mode == (S_IFCHR | 0600));
  CHECK(items["proc"].mode == (S_IFDIR | 0755));
  CHECK(items["ramet/modules"].content ==
        "/ramet/ko/virtio.ko\n/ramet/ko/virtio_mmio.ko\n/ramet/ko/virtio_blk.ko\n"
        "/ramet/ko/overlay.ko\n");
  CHECK(items["ramet/ko/virtio_mmio.ko"].content == fake_elf("virtio_mmio"));
  CHECK(*ramet::build_initramfs(spec) == *archive);
  CHECK(ramet::check_initrd(*archive).ok());
}

TEST_CASE("an initramfs can hold a whole root") {
  const TempDir folder;
  folder.write("root/bin/tool", "#!/bin/x");
  fs::permissions(folder / "root/bin/tool", fs::perms(0755));
  fs::create_symlink("bin", folder / "root/sbin");
  fs::create_directories(folder / "root/dev");
  const Bytes agent = bytes_of(fake_elf("agent"));
  ramet::InitramfsSpec spec = small_spec(agent);
  spec.root_tree = folder / "root";
  const auto archive = ramet::build_initramfs(spec);
  REQUIRE(archive.ok());
  auto items = read_cpio(*archive);
  CHECK(items["bin/tool"].content == "#!/bin/x");
  CHECK(items["bin/tool"].mode == (S_IFREG | 0755));
  CHECK(items["sbin"].content == "bin");
  CHECK(items.contains("init"));
  folder.write("root/init", "another");
  CHECK(ramet::build_initramfs(spec).status().code() == StatusCode::kInvalidArgument);
  spec.root_tree = folder / "nowhere";
  CHECK(ramet::build_initramfs(spec).status().code() == StatusCode::kNotFound);
}

TEST_CASE("an initramfs without an agent, folder, module, or with a bad module is a Status") {
  const TempDir folder;
  make_modules(folder);
  const Bytes agent = bytes_of(fake_elf("agent"));
  const std::string modules = folder / "lib/modules/6.0-test";
  ramet::InitramfsSpec spec = small_spec(agent);
  CHECK(ramet::build_initramfs({}).status().code() == StatusCode::kInvalidArgument);
  spec.modules_folder = folder / "no/such";
  CHECK(ramet::build_initramfs(spec).status().code() == StatusCode::kNotFound);
  spec.modules_folder = modules;
  spec.needed_modules.emplace_back("nbd");
  CHECK(ramet::build_initramfs(spec).status().code() == StatusCode::kNotFound);
  spec.needed_modules.pop_back();
  folder.write("lib/modules/6.0-test/kernel/overlay.ko", "no ELF");
  CHECK(ramet::build_initramfs(spec).status().code() == StatusCode::kDataLoss);
  folder.write("lib/modules/6.0-test/kernel/overlay.ko", fake_elf("overlay"));
  folder.write("lib/modules/6.0-test/kernel/virtio_mmio.ko.xz", "no xz");
  const auto bad_xz = ramet::build_initramfs(spec).status();
  CHECK(bad_xz.code() == StatusCode::kDataLoss);
  CHECK(std::string(bad_xz.message()).find("virtio_mmio.ko.xz") != std::string::npos);
  fs::remove(modules + "/kernel/virtio_mmio.ko.xz");
  CHECK(ramet::build_initramfs(spec).status().code() == StatusCode::kNotFound);
}

TEST_CASE("an initramfs for a kernel with everything built in has no modules") {
  const TempDir folder;
  folder.write("lib/modules/6.0-test/modules.dep", "\n");
  folder.write("lib/modules/6.0-test/modules.builtin",
               "kernel/virtio_mmio.ko\nkernel/virtio-blk.ko\nkernel/overlay.ko\n"
               "kernel/vmw_vsock_virtio_transport.ko\n");
  const Bytes agent = bytes_of(fake_elf("agent"));
  ramet::InitramfsSpec spec = small_spec(agent);
  const auto without = ramet::build_initramfs(spec);
  REQUIRE(without.ok());
  CHECK_FALSE(read_cpio(*without).contains("ramet/modules"));
  spec.modules_folder = folder / "lib/modules/6.0-test";
  const auto with = ramet::build_initramfs(spec);
  REQUIRE(with.ok());
  CHECK(read_cpio(*with)["ramet/modules"].content.empty());
}

TEST_CASE("a module in a compression that cannot be read is Unimplemented, naming the file") {
  for (const char* extension : {".zst", ".gz"}) {
    const TempDir folder;
    make_modules(folder);
    folder.write("lib/modules/6.0-test/modules.dep", std::string("kernel/virtio_mmio.ko") +
                                                         extension + ":\nkernel/overlay.ko:\n" +
                                                         "kernel/virtio_blk.ko:\n");
    folder.write(std::string("lib/modules/6.0-test/kernel/virtio_mmio.ko") + extension, "packed");
    const Bytes agent = bytes_of(fake_elf("agent"));
    ramet::InitramfsSpec spec = small_spec(agent);
    spec.modules_folder = folder / "lib/modules/6.0-test";
    const auto status = ramet::build_initramfs(spec).status();
    CHECK(status.code() == StatusCode::kUnimplemented);
    CHECK(std::string(status.message()).find(std::string("virtio_mmio.ko") + extension) !=
          std::string::npos);
  }
}
