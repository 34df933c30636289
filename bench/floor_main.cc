// Prints what the floor of a fork costs on this host: p50 and p99 of each phase, in microseconds.
//
// usage: floor [FORKS [MEMORY_MIB]]    1000 forks of a 128 MiB guest by default
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "bench/floor.h"

using ramet::bench::FloorResult;

namespace {

struct Phase {
  const char* name;
  uint64_t FloorResult::*ns;
};

constexpr Phase kPhases[] = {
    {"KVM_CREATE_VM", &FloorResult::create_vm_ns},
    {"split irqchip", &FloorResult::irqchip_ns},
    {"memory", &FloorResult::memory_ns},
    {"vCPU", &FloorResult::vcpu_ns},
    {"CPUID", &FloorResult::cpuid_ns},
    {"set state", &FloorResult::restore_ns},
    {"run to first exit", &FloorResult::run_ns},
    {"total", &FloorResult::total_ns},
    {"teardown", &FloorResult::teardown_ns},
};

int fail(const FloorResult& result) {
  std::fprintf(stderr, "floor: %s: errno %d\n", result.failed, result.error);
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  const size_t forks = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1000;
  const uint64_t mebibytes = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 128;
  if (forks == 0 || mebibytes < 4) {
    std::fprintf(stderr, "usage: floor [FORKS [MEMORY_MIB]]    at least 1 fork of 4 MiB\n");
    return 2;
  }
  FloorResult why;
  const auto floor = ramet::bench::make_floor_template(mebibytes << 20, &why);
  if (floor == nullptr) {
    return fail(why);
  }
  std::vector<FloorResult> results;
  for (size_t i = 0; i < forks; ++i) {
    results.push_back(ramet::bench::floor_fork_once(*floor));
    if (results.back().failed != nullptr) {
      return fail(results.back());
    }
  }
  std::printf("%zu forks of %llu MiB, microseconds\n%-20s %10s %10s\n", forks,
              static_cast<unsigned long long>(mebibytes), "", "p50", "p99");
  for (const Phase& phase : kPhases) {
    std::vector<uint64_t> ns;
    ns.reserve(results.size());
    for (const FloorResult& result : results) {
      ns.push_back(result.*phase.ns);
    }
    std::sort(ns.begin(), ns.end());
    std::printf("%-20s %10.1f %10.1f\n", phase.name, static_cast<double>(ns[ns.size() / 2]) / 1e3,
                static_cast<double>(ns[ns.size() * 99 / 100]) / 1e3);
  }
  return 0;
}
