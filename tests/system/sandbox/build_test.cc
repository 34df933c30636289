// Both Debian kernels boot with 1 and 2 vCPUs, are frozen and fork; what cannot be built says why.
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include <catch2/catch.hpp>

#include <ramet/reason.h>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "tests/system/sandbox/guest_template.h"

namespace {

using ramet::testing::shell;
using ramet::testing::small_guest;

std::string write_file(const std::string& name, const std::string& content) {
  const std::string path = ramet::testing::temp_root() + "/" + name;
  std::ofstream(path, std::ios::binary) << content;
  return path;
}

void boots(const std::string& kernel, uint32_t vcpus) {
  std::string console;
  sandbox::TemplateOptions options = small_guest(kernel);
  options.vcpus = vcpus;
  options.console = [&](std::string_view line) { console += line; };
  const auto made = sandbox::Template::build(options);
  INFO("console: " << console);
  RAMET_REQUIRE_OK(made);
  auto box = sandbox::fork(*made);
  RAMET_REQUIRE_OK(box);
  const auto result = shell(*box, "nproc; uname -r");
  RAMET_REQUIRE_OK(result);
  INFO(result->stdout_data << result->stderr_data);
  CHECK(result->stdout_data.substr(0, 2) == std::to_string(vcpus) + "\n");
  CHECK(result->stdout_data.find(kernel.substr(kernel.find('-') + 1)) != std::string::npos);
}

int repetitions() { return ramet::testing::long_run() ? 20 : 1; }

}  // namespace

TEST_CASE("Debian's 6.12 cloud kernel boots with 1 vCPU and its fork answers") {
  RAMET_NEED_GUEST();
  for (int i = 0; i < repetitions(); ++i) {
    boots("cloud-6.12", 1);
  }
}

TEST_CASE("Debian's 6.12 cloud kernel boots with 2 vCPUs and its fork answers") {
  RAMET_NEED_GUEST();
  for (int i = 0; i < repetitions(); ++i) {
    boots("cloud-6.12", 2);
  }
}

TEST_CASE("Debian's 6.1 cloud kernel boots with 1 vCPU and its fork answers") {
  RAMET_NEED_GUEST();
  for (int i = 0; i < repetitions(); ++i) {
    boots("cloud-6.1", 1);
  }
}

TEST_CASE("Debian's 6.1 cloud kernel boots with 2 vCPUs and its fork answers") {
  RAMET_NEED_GUEST();
  for (int i = 0; i < repetitions(); ++i) {
    boots("cloud-6.1", 2);
  }
}

TEST_CASE("a guest without a root file system is nothing but the agent, and forks") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.rootfs.clear();
  const auto made = sandbox::Template::build(options);
  RAMET_REQUIRE_OK(made);
  auto box = sandbox::fork(*made);
  RAMET_REQUIRE_OK(box);
  const auto missing = box->exec({"sh", "-c", "true"});
  RAMET_REQUIRE_OK(missing);
  CHECK(missing->exit_code == 127);
  // The agent refuses to be an /init that is not process 1.
  const auto agent = box->exec({"/init"});
  RAMET_REQUIRE_OK(agent);
  CHECK(agent->exit_code == 1);
  CHECK(agent->stderr_data.find("does nothing elsewhere") != std::string::npos);
}

TEST_CASE("a kernel that is no kernel is refused with what was found in it") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.kernel.image = write_file("no-kernel", "#!/bin/sh\necho this is no kernel\n");
  const auto made = sandbox::Template::build(options);
  REQUIRE(!made.ok());
  INFO(made.status());
  CHECK(sandbox::reason_of(made.status()) == sandbox::Reason::kBadKernel);
}

TEST_CASE("a missing kernel image is refused by name") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.kernel.image = "/nowhere/vmlinuz";
  const auto made = sandbox::Template::build(options);
  REQUIRE(!made.ok());
  INFO(made.status());
  CHECK(std::string(made.status().message()).find("/nowhere/vmlinuz") != std::string::npos);
}

TEST_CASE("a missing and an empty root image are refused by name") {
  RAMET_NEED_GUEST();
  for (const std::string& path : {std::string("/nowhere/root.img"), write_file("empty.img", "")}) {
    sandbox::TemplateOptions options = small_guest("cloud-6.12");
    options.rootfs = path;
    const auto made = sandbox::Template::build(options);
    REQUIRE(!made.ok());
    INFO(made.status());
    CHECK(sandbox::reason_of(made.status()) == sandbox::Reason::kBadImage);
    CHECK(std::string(made.status().message()).find(path) != std::string::npos);
  }
}

TEST_CASE("a root image without a file system ends the build with the guest's own words") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.rootfs = write_file("garbage.img", std::string(1 << 20, 'x'));
  const auto made = sandbox::Template::build(options);
  REQUIRE(!made.ok());
  INFO(made.status());
  CHECK(sandbox::reason_of(made.status()) == sandbox::Reason::kGuestDied);
  CHECK(std::string(made.status().message()).find("ramet-agent") != std::string::npos);
}

TEST_CASE("a guest with too little memory for its kernel is refused before it starts") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.memory_bytes = uint64_t{24} << 20;
  const auto made = sandbox::Template::build(options);
  REQUIRE(!made.ok());
  INFO(made.status());
  CHECK(made.status().code() == absl::StatusCode::kResourceExhausted);
}

TEST_CASE("a warm-up command that fails ends the build with its words") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.warmup = {"sh", "-c", "echo the warm-up is broken >&2; exit 3"};
  const auto made = sandbox::Template::build(options);
  REQUIRE(!made.ok());
  INFO(made.status());
  CHECK(std::string(made.status().message()).find("exited with 3") != std::string::npos);
  CHECK(std::string(made.status().message()).find("the warm-up is broken") != std::string::npos);
}

TEST_CASE(
    "a process that outlives the warm-up keeps the template from being frozen, and is named") {
  RAMET_NEED_GUEST();
  sandbox::TemplateOptions options = small_guest("cloud-6.12");
  options.warmup = {"sh", "-c", "sleep 1000 >/dev/null 2>&1 </dev/null & exit 0"};
  const auto made = sandbox::Template::build(options);
  REQUIRE(!made.ok());
  INFO(made.status());
  CHECK(sandbox::reason_of(made.status()) == sandbox::Reason::kProcessesAlive);
  CHECK(std::string(made.status().message()).find("sleep") != std::string::npos);
}
