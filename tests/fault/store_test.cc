// save() and load() while a system call fails: whole or nothing.
#include <filesystem>

#include "tests/fault/fault_sweep.h"
#include "tests/support/place.h"

namespace {

using namespace ramet::testing;
namespace fs = std::filesystem;

std::string folder(const std::string& name) {
  const std::string path = temp_root() + "/" + name;
  fs::remove_all(path);
  return path;
}

}  // namespace

TEST_CASE("whichever system call of a save fails, the template is on disk whole or not at all") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string parent = folder("fault-save");
  const std::string path = parent + "/t";
  run_sweep({.name = "save", .dense = 16, .engine = shared_template()->engine()},
            {.prepare = [&] { fs::create_directory(parent); },
             .operation =
                 [&] {
                   const absl::Status status = shared_template()->save(path);
                   CHECK(fs::exists(path) == status.ok());
                   CHECK(fs::is_empty(parent) == !status.ok());
                   return status;
                 },
             .clean_up = [&] { fs::remove_all(parent); }});
}

TEST_CASE(
    "whichever system call of a load fails, it is a Status; then the template loads and forks") {
  RAMET_NEED_GUEST();
  RAMET_REQUIRE_OK(shared_template());
  const std::string path = folder("fault-load");
  const absl::Status saved = shared_template()->save(path);
  RAMET_REQUIRE_OK(saved);
  run_sweep({.name = "load", .dense = 16, .engine = shared_template()->engine()},
            {.operation = [&] {
              auto got = sandbox::Template::load(path, {.engine = shared_template()->engine()});
              return got.status();
            }});
  const auto again = sandbox::Template::load(path, {.engine = shared_template()->engine()});
  RAMET_REQUIRE_OK(again);
  auto box = sandbox::fork(*again);
  RAMET_REQUIRE_OK(box);
  const auto result = box->exec({"true"});
  RAMET_REQUIRE_OK(result);
}
