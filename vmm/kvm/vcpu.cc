#include "vmm/kvm/vcpu.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>

#include <absl/strings/str_format.h>

#include "vmm/base/syscall.h"
#include "vmm/kvm/kvm_abi.h"

namespace ramet {

StatusOr<std::unique_ptr<Vcpu>> Vcpu::create(const Vm& vm, uint32_t id) {
  const sys::Result result = sys::ioctl(vm.fd(), KVM_CREATE_VCPU, uint64_t{id});
  RAMET_RETURN_IF_ERROR(result.status("KVM_CREATE_VCPU %d", id));
  UniqueFd fd(static_cast<int>(result.value));
  RAMET_ASSIGN_OR_RETURN(
      Mapping run, Mapping::map_file(fd.get(), 0, vm.kvm().vcpu_mmap_bytes(), MapMode::kShared));
  return std::unique_ptr<Vcpu>(new Vcpu(vm.kvm(), id, std::move(fd), std::move(run)));
}

kvm_run* Vcpu::run_page() const { return reinterpret_cast<kvm_run*>(run_.data()); }

Status Vcpu::set_cpuid(std::span<const x86::CpuidEntry> entries) {
  std::vector<uint64_t> buffer(
      (sizeof(kvm_cpuid2) + entries.size() * sizeof(kvm_cpuid_entry2)) / sizeof(uint64_t) + 1);
  auto* list = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  list->nent = static_cast<uint32_t>(entries.size());
  for (size_t i = 0; i < entries.size(); ++i) {
    kvm_cpuid_entry2& to = list->entries[i];
    to.function = entries[i].function;
    to.index = entries[i].index;
    to.flags = entries[i].indexed ? KVM_CPUID_FLAG_SIGNIFCANT_INDEX : 0;
    to.eax = entries[i].eax;
    to.ebx = entries[i].ebx;
    to.ecx = entries[i].ecx;
    to.edx = entries[i].edx;
  }
  return sys::ioctl(fd_.get(), KVM_SET_CPUID2, static_cast<void*>(list))
      .status("KVM_SET_CPUID2 of %d entries", entries.size());
}

StatusOr<std::vector<x86::CpuidEntry>> Vcpu::cpuid() const {
  constexpr size_t kMost = 256;
  std::vector<uint64_t> buffer(
      (sizeof(kvm_cpuid2) + kMost * sizeof(kvm_cpuid_entry2)) / sizeof(uint64_t) + 1);
  auto* list = reinterpret_cast<kvm_cpuid2*>(buffer.data());
  list->nent = kMost;
  RAMET_RETURN_IF_ERROR(
      sys::ioctl(fd_.get(), KVM_GET_CPUID2, static_cast<void*>(list)).status("KVM_GET_CPUID2"));
  std::vector<x86::CpuidEntry> entries;
  for (size_t i = 0; i < std::min<size_t>(list->nent, kMost); ++i) {
    const kvm_cpuid_entry2& from = list->entries[i];
    entries.push_back({.function = from.function,
                       .index = from.index,
                       .indexed = (from.flags & KVM_CPUID_FLAG_SIGNIFCANT_INDEX) != 0,
                       .eax = from.eax,
                       .ebx = from.ebx,
                       .ecx = from.ecx,
                       .edx = from.edx});
  }
  return entries;
}

Status Vcpu::unblock_in_run(int kick_signal) {
  // The kernel's sigset is 64 bits, bit n-1 for signal n, whatever the libc's is (api.rst 4.17).
  uint64_t blocked = ~uint64_t{0};
  for (const int open : {kick_signal, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGSYS, SIGABRT}) {
    blocked &= ~(uint64_t{1} << (open - 1));
  }
  struct {
    uint32_t size;
    std::array<uint8_t, sizeof(uint64_t)> set;
  } mask = {sizeof(uint64_t), {}};
  std::memcpy(mask.set.data(), &blocked, sizeof blocked);
  return sys::ioctl(fd_.get(), KVM_SET_SIGNAL_MASK, static_cast<void*>(&mask))
      .status("KVM_SET_SIGNAL_MASK");
}

StatusOr<VcpuExit> Vcpu::run() {
  const sys::Result result = sys::ioctl(fd_.get(), KVM_RUN);
  if (result.error == EINTR || result.error == EAGAIN) {
    return VcpuExit{};
  }
  RAMET_RETURN_IF_ERROR(result.status("KVM_RUN of vCPU %d", id_));
  return decode_exit();
}

StatusOr<VcpuExit> Vcpu::complete_pending_exit() {
  request_exit();
  StatusOr<VcpuExit> exit = run();
  clear_exit_request();
  return exit;
}

Status Vcpu::pre_fault(GuestSlice pages) {
  kvm_pre_fault_memory range = {};
  range.gpa = pages.start.value;
  range.size = pages.size;
  // Each call does a part of it and says how much is left; a signal, or another CPU at the same
  // page, ends one early.
  constexpr int kMostInVain = 1000;
  for (int in_vain = 0; range.size != 0 && in_vain < kMostInVain;) {
    const sys::Result result =
        sys::ioctl(fd_.get(), KVM_PRE_FAULT_MEMORY, static_cast<void*>(&range));
    if (result.error == ENOTTY || result.error == EOPNOTSUPP) {
      return absl::UnimplementedError("this host's KVM does not map guest memory ahead");
    }
    if (result.error == EINTR || result.error == EAGAIN) {
      ++in_vain;
      continue;
    }
    RAMET_RETURN_IF_ERROR(
        result.status("KVM_PRE_FAULT_MEMORY of %d bytes at %#x", range.size, range.gpa));
  }
  return Status();
}

void Vcpu::request_exit() {
  std::atomic_ref<uint8_t>(run_page()->immediate_exit).store(1, std::memory_order_release);
}

void Vcpu::clear_exit_request() {
  std::atomic_ref<uint8_t>(run_page()->immediate_exit).store(0, std::memory_order_seq_cst);
}

VcpuExit Vcpu::decode_pio() const {
  const kvm_run* run = run_page();
  const uint64_t bytes = uint64_t{run->io.size} * run->io.count;
  if (run->io.data_offset > run_.size() || bytes > run_.size() - run->io.data_offset) {
    return {.kind = ExitKind::kInternalError,
            .detail = absl::StrFormat("port access of %d bytes outside the kvm_run page", bytes)};
  }
  return {.kind = ExitKind::kPio,
          .is_write = run->io.direction == KVM_EXIT_IO_OUT,
          .address = run->io.port,
          .size = run->io.size,
          .data = {run_.data() + run->io.data_offset, bytes}};
}

VcpuExit Vcpu::decode_exit() const {
  kvm_run* run = run_page();
  switch (run->exit_reason) {
    case KVM_EXIT_IO:
      return decode_pio();
    case KVM_EXIT_MMIO: {
      const uint32_t size = std::min<uint32_t>(run->mmio.len, sizeof run->mmio.data);
      return {.kind = ExitKind::kMmio,
              .is_write = run->mmio.is_write != 0,
              .address = run->mmio.phys_addr,
              .size = size,
              .data = std::as_writable_bytes(std::span(run->mmio.data, size))};
    }
    case KVM_EXIT_INTR:
      return {};
    case KVM_EXIT_HLT:
      return {.kind = ExitKind::kHalt};
    case KVM_EXIT_SHUTDOWN:
      return {.kind = ExitKind::kShutdown};
    case KVM_EXIT_SYSTEM_EVENT:
      if (run->system_event.type == KVM_SYSTEM_EVENT_RESET) {
        return {.kind = ExitKind::kSystemReset};
      }
      if (run->system_event.type == KVM_SYSTEM_EVENT_SHUTDOWN) {
        return {.kind = ExitKind::kSystemPowerOff};
      }
      return {.kind = ExitKind::kOther,
              .detail = absl::StrFormat("system event %d", run->system_event.type)};
    case KVM_EXIT_INTERNAL_ERROR:
      return {.kind = ExitKind::kInternalError,
              .detail =
                  absl::StrFormat("KVM_EXIT_INTERNAL_ERROR, suberror %d", run->internal.suberror)};
    case KVM_EXIT_FAIL_ENTRY:
      return {.kind = ExitKind::kInternalError,
              .detail = absl::StrFormat("KVM_EXIT_FAIL_ENTRY, reason %#x",
                                        run->fail_entry.hardware_entry_failure_reason)};
    default:
      return {.kind = ExitKind::kOther,
              .detail = absl::StrFormat("exit reason %d", run->exit_reason)};
  }
}

}  // namespace ramet
