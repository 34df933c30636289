// What the floor's files share: KVM's structures, the calls, and the machine of one fork.
//
// Thread rule: as bench/floor.h. Invariant: nothing of Ramet's is used.
#ifndef RAMET_BENCH_FLOOR_KVM_H_
#define RAMET_BENCH_FLOOR_KVM_H_

#include <linux/stddef.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "bench/floor.h"

// Before Linux 6.6 this macro gives structures with a flexible array another size in C++ than in C.
#undef __DECLARE_FLEX_ARRAY
// NOLINTNEXTLINE(bugprone-reserved-identifier): the kernel's own name
#define __DECLARE_FLEX_ARRAY(type, name) type name[]
#include <linux/kvm.h>
static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8);

namespace ramet::bench {

inline constexpr size_t kMostEntries = 256;
// Above all memory of a guest that writes there, in the GiB that it has mapped.
inline constexpr uint64_t kFloorNotified = 0x3000'0000;

// A list as KVM takes it: a header of 8 bytes, then the entries.
template <typename Header, typename Entry>
struct List {
  Header* get() { return reinterpret_cast<Header*>(words.data()); }
  std::array<uint64_t, 1 + kMostEntries * sizeof(Entry) / 8> words = {};
};
using CpuidBuffer = List<kvm_cpuid2, kvm_cpuid_entry2>;
using MsrBuffer = List<kvm_msrs, kvm_msr_entry>;

struct SavedState {
  CpuidBuffer cpuid;
  kvm_sregs2 sregs = {};
  kvm_xcrs xcrs = {};
  std::vector<uint64_t> xsave;
  MsrBuffer msrs;
  kvm_clock_data clock = {};
  kvm_lapic_state lapic = {};
  kvm_vcpu_events events = {};
  kvm_debugregs debugregs = {};
  kvm_regs regs = {};
  kvm_mp_state mp_state = {};
};

// Stops at the first call that fails and remembers which it was.
class Calls {
 public:
  explicit Calls(FloorResult* result) : result_(result) {}
  bool ok() const { return result_->failed == nullptr; }
  long note(const char* what, long value) {
    if (value < 0 && ok()) {
      result_->failed = what;
      result_->error = errno;
    }
    return value;
  }
  template <typename T>
  long io(int fd, unsigned long request, T argument, const char* what) {
    return ok() ? note(what, ::ioctl(fd, request, argument)) : -1;
  }

 private:
  FloorResult* result_;
};

class FloorTemplate {
 public:
  ~FloorTemplate() {
    ::close(memfd);
    ::close(kvm);
  }
  int kvm = -1;
  int memfd = -1;
  uint64_t memory_bytes = 0;
  uint64_t run_bytes = 0;
  bool intel = false;
  mutable SavedState state;  // KVM's SET calls take pointers to non-const
};

// The machine of one fork, or of the template while it is made.
struct FloorVm {
  int vm = -1;
  int vcpu = -1;
  void* memory = MAP_FAILED;
  void* run = MAP_FAILED;
};

// From KVM_CREATE_VM to KVM_SET_CPUID2, in the order that costs least.
void make_vm(const FloorTemplate& floor, int sharing, FloorVm* machine, Calls* calls,
             FloorResult* times);
// Every SET of saved state.
void restore(const FloorTemplate& floor, const FloorVm& machine, Calls* calls);
void destroy(const FloorTemplate& floor, FloorVm* machine);

}  // namespace ramet::bench

#endif  // RAMET_BENCH_FLOOR_KVM_H_
