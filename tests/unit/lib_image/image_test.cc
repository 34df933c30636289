#include <lzma.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/image/cpio.h"
#include "lib/image/files.h"
#include "lib/image/initramfs.h"
#include "lib/image/kernel_discovery.h"
#include "lib/image/modules.h"
#include "lib/image/scratch.h"
#include "lib/image/tool.h"
#include "lib/image/xz.h"
#include "tests/support/skip.h"
#include "vmm/base/fault_plan.h"

namespace fs = std::filesystem;
using absl::StatusCode;
using Bytes = std::vector<std::byte>;

namespace {

// A folder that goes with the test.
class Folder {
 public:
  Folder() {
    std::string name = (fs::temp_directory_path() / "ramet-image-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }
  const std::string& path() const { return path_; }
  void write(const std::string& name, std::string_view content) const {
    fs::create_directories(fs::path(path_ + "/" + name).parent_path());
    std::ofstream(path_ + "/" + name, std::ios::binary) << content;
  }

 private:
  std::string path_;
};

Bytes bytes_of(std::string_view text) {
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

std::string text_of(std::span<const std::byte> bytes) {
  std::string text(bytes.size(), '\0');
  std::ranges::transform(bytes, text.begin(), [](std::byte b) { return static_cast<char>(b); });
  return text;
}

Bytes pack_xz(std::span<const std::byte> plain) {
  Bytes packed(plain.size() + 1024);
  size_t size = 0;
  REQUIRE(::lzma_easy_buffer_encode(6, LZMA_CHECK_CRC32, nullptr,
                                    reinterpret_cast<const uint8_t*>(plain.data()), plain.size(),
                                    reinterpret_cast<uint8_t*>(packed.data()), &size,
                                    packed.size()) == LZMA_OK);
  packed.resize(size);
  return packed;
}

std::string fake_elf(const std::string& name) {
  return "\x7f"
         "ELF" +
         name + std::string(64, '.');
}

struct CpioItem {
  uint32_t mode = 0;
  uint32_t uid = 0;
  std::string content;
};

// Reads newc again, by the description of the format.
std::map<std::string, CpioItem> read_cpio(const Bytes& archive) {
  std::map<std::string, CpioItem> items;
  const std::string text = text_of(archive);
  size_t at = 0;
  while (true) {
    REQUIRE(text.substr(at, 6) == "070701");
    const auto field = [&](size_t index) {
      return static_cast<uint32_t>(std::stoul(text.substr(at + 6 + 8 * index, 8), nullptr, 16));
    };
    const uint32_t size = field(6);
    const std::string name = text.substr(at + 110, field(11) - 1);
    const size_t data = (at + 110 + field(11) + 3) / 4 * 4;
    if (name == "TRAILER!!!") {
      return items;
    }
    CHECK(!items.contains(name));
    items[name] = {field(1), field(2), text.substr(data, size)};
    at = (data + size + 3) / 4 * 4;
  }
}

ramet::InitramfsSpec small_spec(const Bytes& agent) {
  ramet::InitramfsSpec spec;
  spec.agent = agent;
  return spec;
}

// A module folder as a package has it, with depmod's files.
void make_modules(const Folder& folder) {
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

TEST_CASE("a cpio archive holds what was added, parents first, and is the same each time") {
  const auto build = [] {
    ramet::CpioWriter writer;
    const Bytes content = bytes_of("hello");
    REQUIRE(writer.add_file("a/b/file", content, 0640, {7, 8}).ok());
    REQUIRE(writer.add_link("a/link", "b/file").ok());
    REQUIRE(writer.add_character_device("dev/console", 5, 1, 0600).ok());
    REQUIRE(writer.add_folder("a").ok());
    return writer.finish();
  };
  const Bytes archive = build();
  CHECK(archive == build());
  CHECK(archive.size() % 512 == 0);
  auto items = read_cpio(archive);
  CHECK(items.size() == 6);
  CHECK(items["a"].mode == (S_IFDIR | 0755));
  CHECK(items["a/b/file"].mode == (S_IFREG | 0640));
  CHECK(items["a/b/file"].uid == 7);
  CHECK(items["a/b/file"].content == "hello");
  CHECK(items["a/link"].content == "b/file");
  CHECK(items["dev/console"].mode == (S_IFCHR | 0600));
  const std::string text = text_of(archive);
  CHECK(text.find("a/b\0") < text.find("a/b/file"));
}

TEST_CASE("a cpio archive refuses paths that are not plain, and a path twice") {
  ramet::CpioWriter writer;
  for (const char* path : {"", "/a", "a/", "a//b", "./a", "a/../b", ".."}) {
    CHECK(writer.add_file(path, {}).code() == StatusCode::kInvalidArgument);
  }
  CHECK(writer.add_file(std::string(4096, 'a'), {}).code() == StatusCode::kInvalidArgument);
  CHECK(writer.add_file("a", {}).ok());
  CHECK(writer.add_file("a", {}).code() == StatusCode::kInvalidArgument);
  CHECK(writer.add_file("a/b", {}).code() == StatusCode::kInvalidArgument);
}

TEST_CASE("a cpio archive over the limit is ResourceExhausted before anything is copied") {
  ramet::CpioWriter writer;
  const std::byte one{};
  // The size alone is looked at: the bytes are never touched.
  CHECK(writer.add_file("big", {&one, ramet::kMaxArchiveBytes}).code() ==
        StatusCode::kResourceExhausted);
}

TEST_CASE("xz data comes back, and cut, damaged, or oversized data is a Status") {
  Bytes plain(300'000);
  for (size_t i = 0; i < plain.size(); ++i) {
    plain[i] = static_cast<std::byte>(i * i >> 7);
  }
  Bytes packed = pack_xz(plain);
  CHECK(*ramet::unpack_xz(packed, plain.size()) == plain);
  CHECK(ramet::unpack_xz(packed, plain.size() - 1).status().code() ==
        StatusCode::kResourceExhausted);
  for (const size_t size : {size_t{0}, size_t{5}, packed.size() / 2, packed.size() - 1}) {
    CHECK(ramet::unpack_xz(std::span(packed).first(size), plain.size()).status().code() ==
          StatusCode::kDataLoss);
  }
  packed[packed.size() / 2] ^= std::byte{1};
  CHECK(ramet::unpack_xz(packed, plain.size()).status().code() == StatusCode::kDataLoss);
  const Bytes empty = pack_xz({});
  CHECK(ramet::unpack_xz(empty, 0)->empty());
}

TEST_CASE("an initramfs holds the agent as init, a console, and the modules in loading order") {
  const Folder folder;
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
}

TEST_CASE("an initramfs can hold a whole root") {
  const Folder folder;
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
  const Folder folder;
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

TEST_CASE("a module folder without modules.dep is given to depmod, which writes nothing there") {
  const Folder folder;
  folder.write("usr/lib/modules/6.0-test/modules.order", "");
  folder.write("usr/lib/modules/6.0-test/modules.builtin", "kernel/fs/ext4/ext4.ko\n");
  const auto before = ramet::list_folder(folder / "usr/lib/modules/6.0-test");
  const auto index = ramet::read_module_index(folder / "usr/lib/modules/6.0-test");
  if (index.status().code() == StatusCode::kNotFound) {
    RAMET_SKIP("depmod is not installed");
  }
  REQUIRE(index.ok());
  CHECK(index->has("ext4"));
  CHECK(*ramet::list_folder(folder / "usr/lib/modules/6.0-test") == *before);
  folder.write("elsewhere/6.0-test/x", "");
  CHECK(ramet::read_module_index(folder / "elsewhere/6.0-test").status().code() ==
        StatusCode::kInvalidArgument);
}

TEST_CASE("find_kernel takes the newest image that has modules, in either place") {
  const Folder folder;
  CHECK(ramet::find_kernel(folder.path()).status().code() == StatusCode::kNotFound);
  folder.write("boot/config-6.1", "x");
  CHECK(ramet::find_kernel(folder.path()).status().code() == StatusCode::kNotFound);
  folder.write("boot/vmlinuz-6.9", "image");
  auto found = ramet::find_kernel(folder.path());
  REQUIRE(found.ok());
  CHECK(found->release == "6.9");
  CHECK(found->modules_folder.empty());
  folder.write("boot/vmlinuz-6.12", "image");
  CHECK(ramet::find_kernel(folder.path() + "/")->release == "6.12");
  folder.write("usr/lib/modules/6.9/modules.order", "");
  found = ramet::find_kernel(folder.path());
  CHECK(found->release == "6.9");
  CHECK(found->image == folder / "boot/vmlinuz-6.9");
  CHECK(found->modules_folder == folder / "usr/lib/modules/6.9");
  folder.write("lib/modules/6.12/modules.order", "");
  CHECK(ramet::find_kernel(folder.path())->modules_folder == folder / "lib/modules/6.12");
  folder.write("boot/vmlinuz-6.12", "");
  CHECK(ramet::find_kernel(folder.path()).status().code() == StatusCode::kFailedPrecondition);
}

TEST_CASE("a scratch image is a sparse ext4 file, the same each time") {
  const Folder folder;
  const std::string path = folder / "scratch.img";
  const uint64_t size = uint64_t{256} * 1024 * 1024;
  const ramet::Status status = ramet::make_scratch_image(path, size);
  if (status.code() == StatusCode::kNotFound) {
    RAMET_SKIP("mke2fs is not installed");
  }
  REQUIRE(status.ok());
  struct stat info = {};
  REQUIRE(::stat(path.c_str(), &info) == 0);
  CHECK(static_cast<uint64_t>(info.st_size) == size);
  CHECK(static_cast<uint64_t>(info.st_blocks) * 512 < size / 100);
  const auto image = ramet::read_whole_file(path, size);
  REQUIRE(image.ok());
  CHECK((*image)[1024 + 56] == std::byte{0x53});  // ext4's magic, 0xef53
  CHECK((*image)[1024 + 57] == std::byte{0xef});
  REQUIRE(ramet::make_scratch_image(folder / "again.img", size).ok());
  CHECK(*ramet::read_whole_file(folder / "again.img", size) == *image);
}

TEST_CASE("a scratch image that cannot be made is a Status and leaves nothing") {
  const Folder folder;
  const std::string path = folder / "scratch.img";
  CHECK(ramet::make_scratch_image(path, 0).code() == StatusCode::kInvalidArgument);
  CHECK(ramet::make_scratch_image(path, ramet::kMinScratchBytes + 1).code() ==
        StatusCode::kInvalidArgument);
  CHECK(ramet::make_scratch_image(folder / "no/such/folder.img", ramet::kMinScratchBytes).code() ==
        StatusCode::kNotFound);
  for (const auto call : {ramet::sys::Call::kFtruncate, ramet::sys::Call::kSpawn,
                          ramet::sys::Call::kFsync, ramet::sys::Call::kRename}) {
    ramet::sys::FaultPlan plan(call, 1, ENOSPC);
    plan.arm();
    CHECK(ramet::make_scratch_image(path, ramet::kMinScratchBytes).code() ==
          StatusCode::kResourceExhausted);
    plan.disarm();
    CHECK(ramet::list_folder(folder.path())->empty());
  }
}

TEST_CASE("run_tool tells a missing program, a failing one, a loud one and a slow one apart") {
  ramet::ToolRun run;
  run.name = "no-such-tool-at-all";
  run.package = "some-package";
  const auto missing = ramet::run_tool(run).status();
  CHECK(missing.code() == StatusCode::kNotFound);
  CHECK(std::string(missing.message()).find("some-package") != std::string::npos);
  run.name = "sh";
  run.arguments = {"-c", "echo out; echo last words >&2; exit 3"};
  const auto failing = ramet::run_tool(run).status();
  CHECK(failing.code() == StatusCode::kFailedPrecondition);
  CHECK(std::string(failing.message()).find("exit status 3: last words") != std::string::npos);
  run.arguments = {"-c", "echo \"$A\""};
  run.environment = {"A=b"};
  CHECK(*ramet::run_tool(run) == "b\n");
  run.arguments = {"-c", "yes"};
  CHECK(ramet::run_tool(run).status().code() == StatusCode::kResourceExhausted);
  run.arguments = {"-c", "exec sleep 100"};
  run.timeout_ns = 100'000'000;
  CHECK(ramet::run_tool(run).status().code() == StatusCode::kDeadlineExceeded);
}

TEST_CASE("reading refuses folders, and files over the limit") {
  const Folder folder;
  folder.write("file", "12345");
  CHECK(ramet::read_text_file(folder / "file", 5).value() == "12345");
  CHECK(ramet::read_whole_file(folder / "file", 4).status().code() ==
        StatusCode::kResourceExhausted);
  CHECK(ramet::read_whole_file(folder.path(), 100).status().code() == StatusCode::kInvalidArgument);
  CHECK(ramet::read_whole_file(folder / "none", 100).status().code() == StatusCode::kNotFound);
}
