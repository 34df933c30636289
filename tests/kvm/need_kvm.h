// RAMET_NEED_KVM(kvm): the host's KVM as a shared_ptr called `kvm`, or the test is skipped for want
// of it. RAMET_NEED_HARDWARE(what): skips where /dev/kvm is software, which cannot do `what`.
//
// Thread rule: as RAMET_SKIP.
#ifndef RAMET_TESTS_KVM_NEED_KVM_H_
#define RAMET_TESTS_KVM_NEED_KVM_H_

#include <string>

#include "tests/support/place.h"
#include "tests/support/skip.h"
#include "vmm/base/clock.h"
#include "vmm/kvm/kvm.h"

#define RAMET_NEED_KVM(name)                                             \
  if (ramet::testing::kvm_kind() == ramet::testing::KvmKind::kNone) {    \
    RAMET_SKIP("/dev/kvm does not open");                                \
  }                                                                      \
  const auto name##_or = ramet::Kvm::open();                             \
  INFO("open /dev/kvm: " << std::string(name##_or.status().ToString())); \
  REQUIRE(name##_or.ok());                                               \
  const std::shared_ptr<const ramet::Kvm> name = *name##_or

#define RAMET_NEED_HARDWARE(what)                                               \
  if (ramet::testing::kvm_kind() != ramet::testing::KvmKind::kHardware) {       \
    RAMET_SKIP(std::string("software KVM cannot ") + (what) + "; runs nested"); \
  }

#endif  // RAMET_TESTS_KVM_NEED_KVM_H_
