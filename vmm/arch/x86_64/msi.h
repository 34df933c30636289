// MsiMessage: an interrupt as the write that carries it (Intel SDM 3A, 11.11; PCI 3.0, 6.8.1).
//
// Thread rule: signal_msi() from any thread; it never blocks.
#ifndef RAMET_VMM_ARCH_X86_64_MSI_H_
#define RAMET_VMM_ARCH_X86_64_MSI_H_

#include <cstdint>

namespace ramet::x86 {

struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;

  friend bool operator==(const MsiMessage&, const MsiMessage&) = default;
};

class MsiSink {
 public:
  virtual ~MsiSink() = default;
  virtual void signal_msi(const MsiMessage& message) = 0;
};

}  // namespace ramet::x86

#endif  // RAMET_VMM_ARCH_X86_64_MSI_H_
