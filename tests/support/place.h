// Where a test runs and where its material lies: the checkout, the cache of kernels and images that
// tests/support/fetch-kernels and make-rootfs fill, and whether this is the nested machine.
//
// Thread rule: free functions, call from anywhere.
// Invariant: a path that is returned is absolute; that it exists is for the test to check (and to
// RAMET_SKIP, saying which script makes it).
#ifndef RAMET_TESTS_SUPPORT_PLACE_H_
#define RAMET_TESTS_SUPPORT_PLACE_H_

#include <cstdint>
#include <string>

namespace ramet::testing {

// The checkout's root.
std::string source_dir();
// $RAMET_DEPS, or .deps at the checkout's root. Its layout is in tests/support/fetch-kernels.
std::string deps_dir();
// The unpacked package tree of "cloud-6.1" or "cloud-6.12"; vmlinuz and modules lie in it.
std::string kernel_dir(const std::string& name);
// $TMPDIR or /tmp: the only place that can be written in the nested machine.
std::string temp_root();

// Set by tests/run --long: repeat counts may be large.
bool long_run();
// In QEMU's machine that tests/support/nested/run starts: everything is 3-15 times slower.
bool in_nested_machine();

// What /dev/kvm is here. Software: it opens, but the processor shows neither vmx nor svm, so an
// ordinary Linux guest does not run.
enum class KvmKind : uint8_t { kNone, kSoftware, kHardware };
KvmKind kvm_kind();

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_PLACE_H_
