// A directory that appears whole or not at all, whichever call fails.
#include "lib/store/directory_writer.h"

#include <cerrno>

#include "tests/unit/lib_store/store_support.h"
#include "vmm/base/fault_plan.h"

using namespace ramet;
using namespace ramet::testing;
namespace fs = std::filesystem;

TEST_CASE("a committed directory is there with what was written, and nothing beside it") {
  TempDir folder;
  for (const std::string name : {"t", "with slash/"}) {
    auto writer = DirectoryWriter::create(folder / name);
    REQUIRE(writer.ok());
    CHECK_FALSE(fs::exists(folder / name));
    write_file((*writer)->temporary() + "/file", "text");
    REQUIRE((*writer)->commit().ok());
    writer->reset();
    CHECK(read_file(folder / name + "/file") == "text");
  }
  CHECK(folder.entries() == 2);
}

TEST_CASE("without a commit nothing is left, whatever was written") {
  TempDir folder;
  {
    const auto writer = DirectoryWriter::create(folder / "t");
    REQUIRE(writer.ok());
    fs::create_directories((*writer)->temporary() + "/deep/er");
    write_file((*writer)->temporary() + "/deep/file", "text");
    CHECK(folder.entries() == 1);
  }
  CHECK(folder.entries() == 0);
}

TEST_CASE("what is there already is refused and stays as it is") {
  TempDir folder;
  write_file(folder / "file", "mine");
  fs::create_directory(folder / "directory");
  fs::create_symlink("nowhere", folder / "link");
  for (const std::string name : {"file", "directory", "directory/", "link", "directory/.."}) {
    INFO(name);
    CHECK(DirectoryWriter::create(folder / name).status().code() ==
          absl::StatusCode::kAlreadyExists);
  }
  CHECK(read_file(folder / "file") == "mine");
  CHECK(folder.entries() == 3);
}

TEST_CASE("what appears between creation and commit is not replaced") {
  TempDir folder;
  auto writer = DirectoryWriter::create(folder / "t");
  REQUIRE(writer.ok());
  fs::create_directory(folder / "t");
  CHECK((*writer)->commit().code() == absl::StatusCode::kAlreadyExists);
  writer->reset();
  CHECK(fs::is_empty(folder / "t"));
  CHECK(folder.entries() == 1);
}

TEST_CASE("names that are no names, and parents that are none, are refused") {
  TempDir folder;
  write_file(folder / "file", "mine");
  CHECK(DirectoryWriter::create("").status().code() != absl::StatusCode::kOk);
  CHECK_FALSE(DirectoryWriter::create("/").ok());
  CHECK(DirectoryWriter::create(folder / "none/t").status().code() == absl::StatusCode::kNotFound);
  CHECK_FALSE(DirectoryWriter::create(folder / "file/t").ok());
  CHECK_FALSE(DirectoryWriter::create(folder / std::string(300, 'x')).ok());
  CHECK(folder.entries() == 1);
}

TEST_CASE("whichever system call fails, the directory is there whole or not at all") {
  const size_t files = open_files();
  for (const int error : {EIO, ENOSPC, EMFILE, EINTR}) {
    bool fired = true;
    for (uint64_t n = 1; fired; ++n) {
      REQUIRE(n < 50);
      TempDir folder;
      sys::FaultPlan plan(sys::Call::kAny, n, error);
      plan.arm();
      bool done = false;
      if (auto writer = DirectoryWriter::create(folder / "t"); writer.ok()) {
        done = (*writer)->commit().ok();
      }
      plan.disarm();
      fired = plan.fired();
      INFO("call " << n << ", errno " << error);
      CHECK(done != fired);
      CHECK(fs::exists(folder / "t") == done);
      CHECK(folder.entries() == (done ? 1 : 0));
    }
  }
  CHECK(open_files() == files);
}
