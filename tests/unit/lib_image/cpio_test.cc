#include "lib/image/cpio.h"

#include <sys/stat.h>

#include <cstdlib>
#include <string>

#include <catch2/catch.hpp>

#include "tests/support/skip.h"
#include "tests/unit/lib_image/cpio_reader.h"
#include "tests/unit/lib_image/image_support.h"
#include "vmm/loader/initrd.h"

using absl::StatusCode;
using namespace ramet::testing;

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

TEST_CASE("cpio(1) and check_initrd read an archive as it was meant") {
  ramet::CpioWriter writer;
  const Bytes content = bytes_of("hello");
  REQUIRE(writer.add_file("a/file", content, 04750, {7, 8}).ok());
  REQUIRE(writer.add_link("a/link", "file").ok());
  REQUIRE(writer.add_character_device("dev/console", 5, 1, 0600).ok());
  const Bytes archive = writer.finish();
  CHECK(ramet::check_initrd(archive).ok());
  if (std::system("command -v cpio >/dev/null") != 0) {  // NOLINT: a fixed command
    RAMET_SKIP("cpio is not installed (tests/support/setup-packages)");
  }
  const TempDir folder;
  folder.write("archive", text_of(archive));
  const std::string command =
      "cd " + folder.path() + " && TZ=UTC cpio -itv --quiet -n <archive 2>&1 | tr -s ' ' >list";
  REQUIRE(std::system(command.c_str()) == 0);  // NOLINT: a command of this test
  CHECK(folder.read("list") ==
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 a\n"
        "-rwsr-x--- 1 7 8 5 Jan 1 1970 a/file\n"
        "lrwxrwxrwx 1 0 0 4 Jan 1 1970 a/link -> file\n"
        "drwxr-xr-x 2 0 0 0 Jan 1 1970 dev\n"
        "crw------- 1 0 0 5, 1 Jan 1 1970 dev/console\n");
}
