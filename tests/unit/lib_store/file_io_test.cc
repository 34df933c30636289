// Members of a template's directory: regular files only, within limits.
#include "lib/store/file_io.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "tests/unit/lib_store/store_support.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;
namespace fs = std::filesystem;

namespace {

std::span<const std::byte> bytes_of(const std::string& text) {
  return std::as_bytes(std::span(text));
}

}  // namespace

TEST_CASE("a member is read back as it was written") {
  TempDir folder;
  const std::string text(100'000, 'x');
  REQUIRE(write_member(folder.path(), "m", bytes_of(text)).ok());
  CHECK(read_file(folder / "m") == text);
  const auto back = read_member(folder.path(), "m", text.size());
  REQUIRE(back.ok());
  CHECK(std::memcmp(back->data(), text.data(), text.size()) == 0);
  REQUIRE(write_member(folder.path(), "empty", {}).ok());
  CHECK(read_member(folder.path(), "empty", 0)->empty());
}

TEST_CASE("a member beyond the limit is refused before anything is allocated for it") {
  TempDir folder;
  write_file(folder / "m", "x");
  fs::resize_file(folder / "m", uintmax_t{1} << 40);
  const auto got = read_member(folder.path(), "m", 64);
  CHECK(got.status().code() == absl::StatusCode::kDataLoss);
  CHECK(says(got.status(), "1099511627776 bytes, more than the limit of 64"));
}

TEST_CASE("a member that is missing, a link, a folder, a FIFO or a socket is DataLoss, at once") {
  TempDir folder;
  write_file(folder / "file", "secret");
  fs::create_symlink("file", folder / "link");
  fs::create_symlink("nowhere", folder / "dangling");
  fs::create_symlink("loop", folder / "loop");
  fs::create_directory(folder / "folder");
  REQUIRE(::mkfifo((folder / "fifo").c_str(), 0600) == 0);
  sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = {}};
  const std::string socket_path = folder / "socket";
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  const UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM, 0));
  REQUIRE(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  for (const std::string name :
       {"none", "link", "dangling", "loop", "folder", "fifo", "socket", "file/x", ""}) {
    const auto got = read_member(folder.path(), name, 100);
    INFO(name << ": " << got.status());
    CHECK(got.status().code() == absl::StatusCode::kDataLoss);
    CHECK(says(got.status(), name));
  }
  CHECK(read_member(folder.path(), "file", 100).ok());
}

TEST_CASE("a member is not created over anything, nor through a link") {
  TempDir folder;
  write_file(folder / "file", "mine");
  fs::create_symlink(folder / "outside", folder / "link");
  CHECK_FALSE(create_member(folder.path(), "file").ok());
  CHECK_FALSE(create_member(folder.path(), "link").ok());
  CHECK(read_file(folder / "file") == "mine");
  CHECK_FALSE(fs::exists(folder / "outside"));
}

TEST_CASE(
    "each system call of writing and reading that fails is a Status, and no file stays open") {
  const size_t files = open_files();
  bool fired = true;
  for (uint64_t n = 1; fired; ++n) {
    REQUIRE(n < 50);
    TempDir folder;
    sys::FaultPlan plan(sys::Call::kAny, n, EIO);
    plan.arm();
    const bool done = write_member(folder.path(), "m", bytes_of("text")).ok() &&
                      read_member(folder.path(), "m", 100).ok();
    plan.disarm();
    fired = plan.fired();
    CHECK(done != fired);
  }
  CHECK(open_files() == files);
}

TEST_CASE("pieces cover the range in order, and the first error ends them") {
  std::vector<std::pair<uint64_t, uint64_t>> seen;
  const auto note = [&](uint64_t offset, uint64_t size) {
    seen.emplace_back(offset, size);
    return seen.size() == 3 ? absl::InternalError("enough") : Status();
  };
  CHECK(for_pieces(5, 0, 4, note).ok());
  CHECK(seen.empty());
  CHECK(for_pieces(5, 8, 4, note).ok());
  CHECK(seen == std::vector<std::pair<uint64_t, uint64_t>>{{5, 4}, {9, 4}});
  seen.clear();
  CHECK_FALSE(for_pieces(0, 100, 10, note).ok());
  CHECK(seen.size() == 3);
}
