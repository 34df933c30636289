#include "examples/cli/staging.h"

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include <catch2/catch.hpp>

#include "tests/support/temp_dir.h"

namespace fs = std::filesystem;
using namespace ramet::testing;

namespace {

void fill(const fs::path& directory) {
  fs::create_directories(directory);
  std::ofstream(directory / "manifest") << "x";
}

}  // namespace

TEST_CASE("a committed template is at its place and nothing is left beside it") {
  const TempDir temp;
  const fs::path target = temp / "deep/py";
  {
    const auto staging = cli::Staging::create(target);
    REQUIRE(staging.ok());
    CHECK(!fs::exists((*staging)->path()));
    fill((*staging)->path());
    CHECK(!fs::exists(target));
    CHECK((*staging)->commit().ok());
  }
  CHECK(fs::exists(target / "manifest"));
  CHECK(entries(target.parent_path()) == 1);
}

TEST_CASE("what is not committed is gone, and the target untouched") {
  const TempDir temp;
  {
    const auto staging = cli::Staging::create(temp / "py");
    REQUIRE(staging.ok());
    fill((*staging)->path());
  }
  CHECK(entries(temp.path()) == 0);
}

TEST_CASE("a target that exists, in whatever form, is refused") {
  const TempDir temp;
  fill(temp / "directory");
  std::ofstream(temp / "file") << "x";
  fs::create_symlink("nowhere", temp / "link");
  for (const char* name : {"directory", "file", "link"}) {
    CHECK(cli::Staging::create(temp / name).status().code() == absl::StatusCode::kAlreadyExists);
  }
}

TEST_CASE("of two that build the same name the second to commit is refused") {
  const TempDir temp;
  const auto first = cli::Staging::create(temp / "py");
  const auto second = cli::Staging::create(temp / "py");
  REQUIRE((first.ok() && second.ok()));
  fill((*first)->path());
  fill((*second)->path());
  CHECK((*first)->commit().ok());
  CHECK((*second)->commit().code() == absl::StatusCode::kAlreadyExists);
  CHECK(fs::exists(temp / "py/manifest"));
}

TEST_CASE("what a killed process left is swept; what a living one builds is not") {
  const TempDir temp;
  fill(temp / ".building-old-abcdef/template");
  fill(temp / ".removing-old-abcdef/template");
  fill(temp / ".other");
  const auto living = cli::Staging::create(temp / "a");
  REQUIRE(living.ok());
  fill((*living)->path());
  const auto next = cli::Staging::create(temp / "b");
  REQUIRE(next.ok());
  CHECK(!fs::exists(temp / ".building-old-abcdef"));
  CHECK(!fs::exists(temp / ".removing-old-abcdef"));
  CHECK(fs::exists(temp / ".other"));
  CHECK(fs::exists((*living)->path() / "manifest"));
}

TEST_CASE("discard wins against a thread that still writes") {
  const TempDir temp;
  const auto staging = cli::Staging::create(temp / "py");
  REQUIRE(staging.ok());
  std::atomic<bool> stop = false;
  fs::create_directories((*staging)->path());
  std::thread writer([&] {
    for (int i = 0; !stop && i < 1'000'000; ++i) {
      std::ofstream((*staging)->path() / std::to_string(i)) << "x";
    }
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(20));
  (*staging)->discard();
  CHECK(entries(temp.path()) == 0);
  stop = true;
  writer.join();
}

TEST_CASE("a directory is removed whole, and one that is not there is an error") {
  const TempDir temp;
  fill(temp / "py");
  CHECK(cli::remove_directory(temp / "py").ok());
  CHECK(entries(temp.path()) == 0);
  CHECK(cli::remove_directory(temp / "py").code() == absl::StatusCode::kNotFound);
  CHECK(entries(temp.path()) == 0);
}

TEST_CASE("a parent that cannot be made is an error that names it") {
  const TempDir temp;
  std::ofstream(temp / "file") << "x";
  const auto staging = cli::Staging::create(temp / "file/py");
  REQUIRE(!staging.ok());
  CHECK(std::string(staging.status().message()).find("file") != std::string::npos);
}
