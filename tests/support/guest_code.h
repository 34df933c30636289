// Hand-made guests: programs of a few instructions (guest/guests.S), the page tables, GDT and IDT
// they need, and a device that records what they say. A Box is a whole small machine around one.
//
// Thread rule: Recorder is thread-safe; a Box belongs to the test's thread, its machine's rules
// hold. Invariant: a guest starts in 64-bit mode at CPL 0 with the first 4 GiB mapped to themselves
// (vmm/arch/x86_64/boot.h), interrupts off, its stack below kGuestStack. The numbers here are
// repeated in guests.S.
#ifndef RAMET_TESTS_SUPPORT_GUEST_CODE_H_
#define RAMET_TESTS_SUPPORT_GUEST_CODE_H_

#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "vmm/bus/device.h"
#include "vmm/machine/machine.h"
#include "vmm/memory/memory_image.h"

namespace ramet::testing {

inline constexpr uint64_t kGuestMemoryBytes = 4 << 20;
inline constexpr uint64_t kGuestIdt = 0x3000;
inline constexpr uint64_t kGuestApCode = 0x6000;  // where a SIPI sends a second processor
inline constexpr uint64_t kGuestCode = 0x10'0000;
inline constexpr uint64_t kGuestStack = 0x1F'F000;
inline constexpr uint64_t kGuestData = 0x20'0000;
inline constexpr uint64_t kGuestMmio = 0xD000'0000;
inline constexpr uint64_t kGuestMmioBytes = 0x2000;
inline constexpr size_t kStringBytes = 3000;

inline constexpr uint16_t kPortBase = 0x500;
inline constexpr uint16_t kPortData = 0x500;
inline constexpr uint16_t kPortDone = 0x501;
inline constexpr uint16_t kPortIrq = 0x502;
inline constexpr uint16_t kPortString = 0x503;
inline constexpr uint16_t kPortAsk = 0x504;
inline constexpr uint16_t kPortRoom = 16;

// See guests.S for what each does.
enum class Program : uint8_t {
  kPio,
  kMmio,
  kCount,
  kStream,
  kHello,
  kHalt,
  kTripleFault,
  kIrq,
  kTimer,
  kSipi,
  kClock,
  kDirty,
  kAp,
};

struct ProgramBytes {
  std::span<const std::byte> code;
  uint64_t handler = 0;  // offset of its interrupt handler; 0: none
};
ProgramBytes program_bytes(Program program);

// Puts page tables, GDT, IDT (where the program has a handler) and code in place.
Status load_program(const GuestMemory& memory, Program program);
// The registers at its first instruction.
x86::EntryState program_entry();
// The one region that a small guest has.
std::vector<MemoryRegion> small_regions(uint64_t bytes = kGuestMemoryBytes);

// One access that a device saw.
struct Access {
  uint64_t offset = 0;
  bool is_write = false;
  uint32_t size = 0;
  uint64_t value = 0;
  friend bool operator==(const Access&, const Access&) = default;
};

// A device that keeps every access and answers reads from a function.
class Recorder : public BusDevice {
 public:
  using Answer = std::function<uint64_t(const Access&)>;
  // Called on the vCPU's thread for every write, before it is recorded.
  using OnWrite = std::function<void(const Access&)>;

  void bus_read(uint64_t offset, std::span<std::byte> data) override;
  void bus_write(uint64_t offset, std::span<const std::byte> data) override;

  void set_answer(Answer answer);
  void set_on_write(OnWrite on_write);
  std::vector<Access> accesses() const;
  // Writes at this offset.
  size_t writes(uint64_t offset) const;
  // Waits until `count` writes at `offset` were seen; false when the time is over.
  bool wait_writes(uint64_t offset, size_t count,
                   std::chrono::milliseconds limit = std::chrono::seconds(20)) const;
  void clear();
  // Keeps no accesses from now on, only counts writes.
  void count_only();

 private:
  void note(const Access& access);

  mutable std::mutex mutex_;
  mutable std::condition_variable seen_;
  Answer answer_;
  OnWrite on_write_;
  bool keep_ = true;
  std::vector<Access> accesses_;
  std::vector<size_t> writes_ = std::vector<size_t>(64);
};

// A machine with a Recorder on the ports and one on the MMIO range. The recorders outlive the
// machine.
struct Box {
  std::shared_ptr<const Kvm> kvm;
  UniqueFd memfd;  // only of a fresh one
  std::unique_ptr<Recorder> ports = std::make_unique<Recorder>();
  std::unique_ptr<Recorder> mmio = std::make_unique<Recorder>();
  std::unique_ptr<Machine> machine;

  GuestMemory& memory() { return machine->memory(); }
  // The 64-bit number at kGuestData + offset.
  uint64_t data(uint64_t offset = 0);
};

// Makes the vCPU threads of all boxes, behind their filter; it keeps no idle ones, so that what a
// machine costs and leaves can be counted.
jail::Jail* shared_jail();

struct BoxOptions {
  uint32_t vcpus = 1;
  uint64_t memory_bytes = kGuestMemoryBytes;
  // Changes the registers at the entry.
  std::function<void(VcpuRegisters&)> registers = {};
};

// A fresh machine with the program in shared memory, at its entry, paused.
StatusOr<Box> make_box(std::shared_ptr<const Kvm> kvm, Program program,
                       const BoxOptions& options = {});
// Its devices, in the buses of its machine.
Status insert_recorders(Box* box);
// Another machine in the state `state` over a copy-on-write view of `image`, paused.
StatusOr<Box> fork_box(std::shared_ptr<const Kvm> kvm, const MemoryImage& image,
                       const MachineState& state);
// Ends the box's machine and freezes its memory.
StatusOr<std::shared_ptr<const MemoryImage>> freeze_box(Box box);

// vCPU `vcpu` at the entry of the program that was loaded, with the stack that Box gives it.
Status enter_program(Machine& machine, uint32_t vcpu,
                     const std::function<void(VcpuRegisters&)>& change = {});
// The baseline CPU model of this host.
std::vector<x86::CpuidEntry> host_baseline(const Kvm& kvm);

}  // namespace ramet::testing

#endif  // RAMET_TESTS_SUPPORT_GUEST_CODE_H_
