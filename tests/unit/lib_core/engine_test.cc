// What can be said of a host and an engine where there is no KVM.
#include "lib/core/engine.h"

#include <catch2/catch.hpp>

#include "lib/core/host_facts.h"
#include "lib/instance/reasons.h"
#include "tests/support/settle.h"

using namespace ramet;
using namespace ramet::testing;

TEST_CASE("a host without the device is described all the same, and says why it has no KVM") {
  const HostFacts facts = inspect_host("/no/such/kvm");
  CHECK(facts.kvm.code() == absl::StatusCode::kNotFound);
  CHECK(std::string(facts.kvm.message()).find("/no/such/kvm") != std::string::npos);
  CHECK_FALSE(facts.hardware_kvm);
  CHECK_FALSE(facts.tsc_runs);
  CHECK(facts.capabilities.empty());
  CHECK_FALSE(facts.kernel_release.empty());
  CHECK(facts.cores >= 1);
  CHECK(facts.memory_bytes >= facts.available_memory_bytes);
  CHECK(facts.available_memory_bytes > 0);
  CHECK(facts.open_files_limit > 0);
}

TEST_CASE("a file that is no KVM device is refused as one") {
  for (const std::string path : {"/dev/null", "/etc/passwd", "/dev"}) {
    const HostFacts facts = inspect_host(path);
    INFO(path << ": " << facts.kvm);
    CHECK_FALSE(facts.kvm.ok());
    CHECK_FALSE(facts.hardware_kvm);
  }
}

TEST_CASE("an engine without KVM is a Status with a reason, and leaves nothing") {
  const size_t files = descriptor_count();
  const size_t threads = thread_count();
  const auto engine = Engine::create({.kvm_device = "/no/such/kvm"});
  CHECK(engine.status().code() == absl::StatusCode::kNotFound);
  INFO(engine.status());
  CHECK(reason_of(engine.status()) == reason::kKvmMissing);
  CHECK(reason_of(Engine::create({.kvm_device = "/dev/null"}).status()) == reason::kKvmUnfit);
  CHECK(Engine::create({.workers = 65}).status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(Engine::create({.worker_processes = 65}).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(Engine::create({.pressure = {.max_some_percent = 101}}).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(settled(descriptor_count, files) <= files);
  CHECK(settled(thread_count, threads) <= threads);
}
