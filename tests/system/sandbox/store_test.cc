// Templates on disk: saved whole or not at all, loaded only when every byte is right.
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "lib/store/file_io.h"
#include "lib/store/template_store.h"
#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/system/sandbox/guest_template.h"

namespace {

namespace fs = std::filesystem;
using ramet::testing::quiet_process;
using ramet::testing::settled_process;
using ramet::testing::shared_template;
using ramet::testing::shell;

const std::vector<std::string> kFiles = {"manifest.json", "vmstate.bin", "memory.bin",
                                         "scratch.bin"};

std::string place(const std::string& name) {
  const std::string path = ramet::testing::temp_root() + "/" + name;
  fs::remove_all(path);
  return path;
}

// A saved template, made at the first call.
const std::string& saved() {
  static const std::string kPath = [] {
    const std::string path = place("saved-template");
    const absl::Status status = shared_template()->save(path);
    return status.ok() ? path : "save failed: " + status.ToString();
  }();
  return kPath;
}

absl::StatusOr<sandbox::Template> load(const std::string& path) {
  return sandbox::Template::load(path, {.engine = shared_template()->engine()});
}

// A copy of the saved template that a test may break. The files are sparse, so they are copied as
// such.
std::string copy_of_saved(const std::string& name) {
  const std::string path = place(name);
  const std::string command = "cp -r --sparse=always " + saved() + " " + path;
  return std::system(command.c_str()) == 0 ? path : "copy failed";
}

void flip_byte(const std::string& file, std::streamoff offset) {
  std::fstream stream(file, std::ios::in | std::ios::out | std::ios::binary);
  stream.seekg(offset);
  const int byte = stream.get();
  stream.seekp(offset);
  stream.put(static_cast<char>(byte ^ 0x40));
}

// Where the file's first byte that is not zero lies, after `from`.
std::streamoff first_data(const std::string& file, std::streamoff from) {
  std::ifstream stream(file, std::ios::binary);
  stream.seekg(from);
  std::streamoff at = from;
  for (int byte; (byte = stream.get()) != EOF; ++at) {
    if (byte != 0) {
      return at;
    }
  }
  return -1;
}

size_t leftovers(const std::string& directory) {
  size_t count = 0;
  for (const auto& entry : fs::directory_iterator(directory)) {
    count += entry.path().filename().string().find(".tmp-") != std::string::npos ? 1 : 0;
  }
  return count;
}

}  // namespace

TEST_CASE("a saved template is loaded and forks as the built one does") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const auto loaded = load(saved());
  RAMET_REQUIRE_OK(loaded);
  CHECK(loaded->info().memory_bytes == shared_template()->info().memory_bytes);
  CHECK(loaded->info().kernel_release == shared_template()->info().kernel_release);
  auto box = sandbox::fork(*loaded);
  RAMET_REQUIRE_OK(box);
  const auto result = shell(*box, "echo from disk >/root/f; sync; cat /root/f");
  RAMET_REQUIRE_OK(result);
  CHECK(result->stdout_data == "from disk\n");
  const auto info = sandbox::inspect_template(saved());
  RAMET_REQUIRE_OK(info);
  CHECK(info->stored_memory_bytes > 0);
  CHECK(info->stored_memory_bytes < info->memory_bytes);
}

TEST_CASE("saving over something that is there is refused and changes nothing") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string path = place("taken");
  fs::create_directory(path);
  const absl::Status status = shared_template()->save(path);
  INFO(status);
  CHECK(status.code() == absl::StatusCode::kAlreadyExists);
  CHECK(fs::is_empty(path));
  CHECK(leftovers(ramet::testing::temp_root()) == 0);
}

TEST_CASE("a full disk while saving is a Status and leaves nothing behind") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string mount_point = place("small-disk");
  fs::create_directory(mount_point);
  if (::mount("tmpfs", mount_point.c_str(), "tmpfs", 0, "size=1m") != 0) {
    RAMET_SKIP("needs the right to mount a tmpfs");
  }
  const absl::Status status = shared_template()->save(mount_point + "/t");
  const bool empty = fs::is_empty(mount_point);
  ::umount(mount_point.c_str());
  INFO(status);
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(empty);
}

TEST_CASE("a template with any file missing is refused by the file's name") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  for (const std::string& file : kFiles) {
    const std::string path = copy_of_saved("broken");
    fs::remove(path + "/" + file);
    const auto before = quiet_process();
    const auto loaded = load(path);
    REQUIRE(!loaded.ok());
    INFO(loaded.status());
    CHECK(sandbox::reason_of(loaded.status()) == sandbox::Reason::kBadTemplate);
    CHECK(std::string(loaded.status().message()).find(file) != std::string::npos);
    CHECK(settled_process(before).fds == before.fds);
  }
}

TEST_CASE("a template with any file cut short is refused") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  for (const std::string& file : kFiles) {
    for (const uintmax_t part : {uintmax_t{0}, uintmax_t{2}}) {
      const std::string path = copy_of_saved("broken");
      const auto size = fs::file_size(path + "/" + file);
      fs::resize_file(path + "/" + file, part == 0 ? 0 : size / part);
      const auto loaded = load(path);
      REQUIRE(!loaded.ok());
      INFO(file << ": " << loaded.status());
      CHECK(sandbox::reason_of(loaded.status()) == sandbox::Reason::kBadTemplate);
    }
  }
}

TEST_CASE("a template with any file altered in one bit is refused") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  for (const std::string& file : kFiles) {
    const std::string path = copy_of_saved("broken");
    const std::string full = path + "/" + file;
    const auto middle = first_data(full, static_cast<std::streamoff>(fs::file_size(full) / 3));
    const auto where = middle >= 0 ? middle : first_data(full, 0);
    REQUIRE(where >= 0);
    flip_byte(full, where);
    const auto loaded = load(path);
    INFO(file << " at " << where);
    REQUIRE(!loaded.ok());
    INFO(loaded.status());
    CHECK(loaded.status().code() == absl::StatusCode::kDataLoss);
  }
}

TEST_CASE("a template from another CPU is refused with what this one lacks") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string path = copy_of_saved("other-cpu");
  auto state = ramet::read_member(path, ramet::kStateName, ramet::kMaxStateBytes);
  auto manifest = ramet::read_manifest(path);
  RAMET_REQUIRE_OK(state);
  RAMET_REQUIRE_OK(manifest);
  auto sections = ramet::parse_sections(*state);
  RAMET_REQUIRE_OK(sections);
  auto machine = ramet::machine_state_from(*sections);
  RAMET_REQUIRE_OK(machine);
  for (ramet::x86::CpuidEntry& entry : machine->cpuid) {
    if (entry.function == 7 && entry.index == 0) {
      entry.ebx |= 1u << 16;  // AVX-512F, which the nested machine's processor has not
    }
  }
  for (const ramet::Section& changed : ramet::to_sections(*machine)) {
    for (ramet::Section& section : *sections) {
      section = section.name == changed.name ? changed : section;
    }
  }
  *state = ramet::encode_sections(*sections);
  manifest->state_bytes = state->size();
  manifest->state_digest = ramet::digest(*state);
  const std::string text = ramet::format_manifest(*manifest);
  fs::remove(path + "/" + ramet::kStateName);
  fs::remove(path + "/" + ramet::kManifestName);
  RAMET_REQUIRE_OK(ramet::write_member(path, ramet::kStateName, *state));
  RAMET_REQUIRE_OK(ramet::write_member(path, ramet::kManifestName, std::as_bytes(std::span(text))));
  const auto loaded = load(path);
  REQUIRE(!loaded.ok());
  INFO(loaded.status());
  CHECK(sandbox::reason_of(loaded.status()) == sandbox::Reason::kIncompatible);
  CHECK(std::string(loaded.status().message()).find("leaf 0x7.0 ebx") != std::string::npos);
}

TEST_CASE("a template whose root image is another file now is refused") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string other = ramet::testing::temp_root() + "/other-root.img";
  std::ofstream(other) << std::string(1 << 20, 'y');
  const auto loaded =
      sandbox::Template::load(saved(), {.rootfs = other, .engine = shared_template()->engine()});
  REQUIRE(!loaded.ok());
  INFO(loaded.status());
  CHECK(sandbox::reason_of(loaded.status()) == sandbox::Reason::kBadImage);
}

TEST_CASE("a directory that is no template is refused") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string path = place("empty-directory");
  fs::create_directory(path);
  CHECK(sandbox::reason_of(load(path).status()) == sandbox::Reason::kBadTemplate);
  CHECK(sandbox::reason_of(load(path + "/nothing").status()) == sandbox::Reason::kBadTemplate);
}
