// The KVM capabilities that Ramet asks for: which it cannot do without, which it uses when there,
// and why.
//
// Thread rule: constant data.
#ifndef RAMET_VMM_KVM_CAPABILITIES_H_
#define RAMET_VMM_KVM_CAPABILITIES_H_

#include <cstdint>
#include <span>
#include <string_view>

namespace ramet {

struct CapabilityRow {
  uint32_t number;        // KVM_CAP_*, Documentation/virt/kvm/api.rst
  std::string_view name;  // without the KVM_CAP_ prefix
  bool required;
  std::string_view needed_for;
};

std::span<const CapabilityRow> capability_table();

}  // namespace ramet

#endif  // RAMET_VMM_KVM_CAPABILITIES_H_
