#include "vmm/machine/machine.h"

#include <algorithm>
#include <chrono>

#include <absl/strings/str_cat.h>
#include <absl/strings/str_format.h>

#include "vmm/base/clock.h"

namespace ramet {
namespace {

// A TSC within this share of the saved rate counts as the same: what KVM itself tolerates without
// scaling (tsc_tolerance_ppm, arch/x86/kvm/x86.c).
constexpr uint64_t kTscTolerancePpm = 250;

bool same_rate(uint32_t a, uint32_t b) {
  const uint64_t difference = a > b ? a - b : b - a;
  return difference * 1'000'000 <= uint64_t{a} * kTscTolerancePpm;
}

Status match_tsc_rate(Vcpu* vcpu, uint32_t wanted_khz) {
  RAMET_ASSIGN_OR_RETURN(const uint32_t here, vcpu->tsc_khz());
  if (same_rate(here, wanted_khz)) {
    return Status();
  }
  if (Status status = vcpu->set_tsc_khz(wanted_khz); !status.ok()) {
    return absl::FailedPreconditionError(absl::StrFormat(
        "the template's TSC runs at %d kHz, this host's at %d kHz, and its KVM cannot scale it: "
        "build the template anew on this host",
        wanted_khz, here));
  }
  return Status();
}

// Where in its file a region lies is the memory's own affair.
bool same_layout(std::span<const MemoryRegion> a, std::span<const MemoryRegion> b) {
  return std::ranges::equal(a, b, [](const MemoryRegion& one, const MemoryRegion& other) {
    return one.start == other.start && one.size == other.size;
  });
}

}  // namespace

Machine::Machine(const Host& host, std::unique_ptr<GuestMemory> memory)
    : host_(host),
      memory_(std::move(memory)),
      tenant_(std::make_shared<jail::Tenant>([this](const jail::RefusedCall& call) {
        request_end({EndReason::kRefusedCall, jail::describe(call)});
      })) {}

StatusOr<std::unique_ptr<Machine>> Machine::make(const Host& host,
                                                 std::unique_ptr<GuestMemory> memory,
                                                 std::vector<x86::CpuidEntry> cpuid) {
  std::unique_ptr<Machine> machine(new Machine(host, std::move(memory)));
  machine->cpuid_ = std::move(cpuid);
  const uint64_t start = monotonic_ns();
  RAMET_ASSIGN_OR_RETURN(machine->vm_, Vm::create(machine->host_.kvm));
  const uint64_t made = monotonic_ns();
  RAMET_RETURN_IF_ERROR(machine->vm_->set_memory(*machine->memory_));
  machine->times_.create_vm_ns = made - start;
  machine->times_.memory_slots_ns = monotonic_ns() - made;
  return machine;
}

StatusOr<std::unique_ptr<Machine>> Machine::create(const Host& host,
                                                   std::unique_ptr<GuestMemory> memory,
                                                   uint32_t vcpus,
                                                   std::vector<x86::CpuidEntry> cpuid) {
  if (vcpus == 0 || vcpus > x86::kMaxVcpus) {
    return absl::InvalidArgumentError(
        absl::StrFormat("%d vCPUs asked for; 1 to %d can be had", vcpus, x86::kMaxVcpus));
  }
  RAMET_ASSIGN_OR_RETURN(auto machine, make(host, std::move(memory), std::move(cpuid)));
  RAMET_ASSIGN_OR_RETURN(auto made, machine->make_vcpus(vcpus));
  RAMET_RETURN_IF_ERROR(machine->make_ioapic(std::make_unique<x86::Ioapic>(&machine->msi_path_)));
  RAMET_RETURN_IF_ERROR(made[0]->tsc_khz().status());
  RAMET_RETURN_IF_ERROR(machine->start_threads(std::move(made)));
  return machine;
}

StatusOr<std::unique_ptr<Machine>> Machine::restore(const Host& host,
                                                    std::unique_ptr<GuestMemory> memory,
                                                    const MachineState& state) {
  if (state.vcpus.empty() || state.vcpus.size() > x86::kMaxVcpus) {
    return absl::DataLossError(absl::StrFormat("a snapshot of %d vCPUs", state.vcpus.size()));
  }
  if (!same_layout(memory->regions(), state.regions)) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "restore a snapshot of %d bytes in %d regions over memory of %d bytes in %d regions, or at "
        "other addresses",
        total_bytes(state.regions), state.regions.size(), memory->total_bytes(),
        memory->regions().size()));
  }
  RAMET_RETURN_IF_ERROR(x86::check_compatible(state.cpuid, host.kvm->supported_cpuid()));
  RAMET_ASSIGN_OR_RETURN(auto machine, make(host, std::move(memory), state.cpuid));
  RAMET_ASSIGN_OR_RETURN(auto vcpus,
                         machine->make_vcpus(static_cast<uint32_t>(state.vcpus.size())));
  const uint64_t start = monotonic_ns();
  RAMET_RETURN_IF_ERROR(
      machine->make_ioapic(std::make_unique<x86::Ioapic>(&machine->msi_path_, state.ioapic)));
  RAMET_RETURN_IF_ERROR(match_tsc_rate(vcpus[0].get(), state.tsc_khz));
  for (size_t i = 1; i < vcpus.size(); ++i) {
    RAMET_RETURN_IF_ERROR(match_tsc_rate(vcpus[i].get(), state.tsc_khz));
  }
  for (size_t i = 0; i < vcpus.size(); ++i) {
    RAMET_RETURN_IF_ERROR(annotate(vcpus[i]->restore(state.vcpus[i]), "restore vCPU %d", i));
  }
  machine->times_.restore_ns = monotonic_ns() - start;
  RAMET_RETURN_IF_ERROR(machine->start_threads(std::move(vcpus)));
  return machine;
}

Status Machine::prefetch(const WorkingSet& set) {
  RAMET_RETURN_IF_ERROR(memory_->populate_private(set.written));
  if (!host_.kvm->has_pre_fault()) {
    return Status();
  }
  return with_vcpu(0, [&](Vcpu& vcpu) {
    for (const auto* pages : {&set.written, &set.read}) {
      for (const GuestSlice& slice : memory_->slices_of(*pages)) {
        const Status mapped = vcpu.pre_fault(slice);
        if (absl::IsUnimplemented(mapped)) {  // shadow paging
          return Status();
        }
        RAMET_RETURN_IF_ERROR(mapped);
      }
    }
    return Status();
  });
}

Status Machine::rewind(const MachineState& state, const MemoryBack& memory_back) {
  if (state.vcpus.size() != vcpus_.size()) {
    return absl::InvalidArgumentError(absl::StrFormat(
        "rewind a machine of %d vCPUs to a state of %d", vcpus_.size(), state.vcpus.size()));
  }
  for (const auto& vcpu : vcpus_) {
    vcpu->wait_paused();
    RAMET_RETURN_IF_ERROR(vcpu->begin_anew());
  }
  {
    const std::lock_guard lock(mutex_);
    end_.reset();
  }
  was_paused_ = false;
  handler_.forget_devices();
  msi_path_.begin_anew();
  RAMET_RETURN_IF_ERROR(make_ioapic(std::make_unique<x86::Ioapic>(&msi_path_, state.ioapic)));
  // After the vCPUs: completing what they had begun may have written to it.
  if (memory_back) {
    RAMET_RETURN_IF_ERROR(memory_back(*memory_));
    return restore_vcpus(state);
  }
  // On the thread that used the pages, which is awake: it costs half as much there, and meanwhile
  // the registers are set.
  RAMET_RETURN_IF_ERROR(vcpus_[0]->begin_work([this] { return memory_->drop_private(); }));
  const Status restored = restore_vcpus(state);
  Status dropped = vcpus_[0]->end_work();
  RAMET_RETURN_IF_ERROR(restored);
  return dropped;
}

Status Machine::restore_vcpus(const MachineState& state) {
  for (uint32_t i = 0; i < vcpus_.size(); ++i) {
    RAMET_RETURN_IF_ERROR(annotate(with_vcpu(i,
                                             [&](Vcpu& vcpu) {
                                               RAMET_RETURN_IF_ERROR(
                                                   vcpu.forget_startup_ipis(state.vcpus[i]));
                                               return vcpu.restore(state.vcpus[i]);
                                             }),
                                   "rewind vCPU %d", i));
  }
  return Status();
}

Status Machine::restore_time(const MachineState& state) {
  RAMET_RETURN_IF_ERROR(vm_->set_clock_ns(state.clock_ns));
  for (uint32_t i = 0; i < vcpus_.size(); ++i) {
    RAMET_RETURN_IF_ERROR(
        annotate(with_vcpu(i, [&](Vcpu& vcpu) { return vcpu.restore_time(state.vcpus.at(i)); }),
                 "restore the clocks of vCPU %d", i));
  }
  return Status();
}

Machine::~Machine() {
  stop();
  tenant_->close();
}

void Machine::MsiPath::signal_msi(const x86::MsiMessage& message) {
  if (Status sent = machine_.vm_->signal_msi(message); !sent.ok()) {
    machine_.request_end_soon(
        {EndReason::kHostError, absl::StrCat("an interrupt was lost: ", sent.ToString())});
  }
  sent_.fetch_add(1, std::memory_order_relaxed);
  if (!machine_.governor_.counts_interrupts()) {
    return;
  }
  if (const auto hit = machine_.governor_.count_interrupt(monotonic_ns())) {
    machine_.request_end_soon(limit_end(*hit));
  }
}

void Machine::count_cpu(uint64_t cpu_ns) {
  const Governor::CpuAnswer answer = governor_.count_cpu(cpu_ns, monotonic_ns());
  if (answer.hit) {
    return request_end(limit_end(*answer.hit));
  }
  for (const auto& vcpu : vcpus_) {
    if (answer.wait) {
      vcpu->look_at_governor();
    }
  }
}

Status Machine::make_ioapic(std::unique_ptr<x86::Ioapic> ioapic) {
  ioapic_ = std::move(ioapic);
  for (uint32_t gsi = 0; gsi < lines_.size(); ++gsi) {
    lines_[gsi].ioapic = ioapic_.get();
    lines_[gsi].gsi = gsi;
  }
  return mmio().insert(x86::kIoApicAddress, x86::kIoApicSize, ioapic_.get());
}

StatusOr<std::vector<std::unique_ptr<Vcpu>>> Machine::make_vcpus(uint32_t count) {
  const uint64_t start = monotonic_ns();
  std::vector<std::unique_ptr<Vcpu>> vcpus;
  for (uint32_t id = 0; id < count; ++id) {
    RAMET_ASSIGN_OR_RETURN(auto vcpu, Vcpu::create(*vm_, id));
    const auto entries = x86::for_vcpu(cpuid_, id, count);
    RAMET_RETURN_IF_ERROR(vcpu->set_cpuid(entries));
    if (id == 0) {
      RAMET_RETURN_IF_ERROR(check_cpuid(*vcpu, entries));
    }
    vcpus.push_back(std::move(vcpu));
  }
  times_.vcpus_ns = monotonic_ns() - start;
  return vcpus;
}

Status Machine::check_cpuid(const Vcpu& vcpu, std::span<const x86::CpuidEntry> asked) {
  RAMET_ASSIGN_OR_RETURN(const auto got, vcpu.cpuid());
  returned_cpuid_bits_ = x86::returned_bits(asked, got);
  if (!returned_cpuid_bits_.empty() && host_.kvm->kind() == KvmKind::kHardware) {
    return absl::InternalError("KVM gives the guest CPU features that were masked: " +
                               returned_cpuid_bits_);
  }
  return Status();
}

Status Machine::start_threads(std::vector<std::unique_ptr<Vcpu>> vcpus) {
  for (auto& vcpu : vcpus) {
    RAMET_ASSIGN_OR_RETURN(
        auto thread,
        VcpuThread::start(std::move(vcpu), handler_,
                          [this](const MachineEnd& end) { request_end(end); },
                          {.jail = host_.jail, .tenant = tenant_, .governor = &governor_}));
    vcpus_.push_back(std::move(thread));
  }
  return Status();
}

Status Machine::set_entry(const x86::EntryState& entry) {
  return with_vcpu(0, [&](Vcpu& vcpu) { return vcpu.set_entry(entry); });
}

Status Machine::with_vcpu(uint32_t vcpu, const std::function<Status(Vcpu&)>& function) {
  if (vcpu >= vcpus_.size()) {
    return absl::InvalidArgumentError(
        absl::StrFormat("vCPU %d of a machine of %d", vcpu, vcpus_.size()));
  }
  return vcpus_[vcpu]->call(function);
}

Status Machine::refuse_ended(const char* what) const {
  if (const auto ended = end()) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, " a machine that has ended: ", ended->detail));
  }
  return Status();
}

Status Machine::resume() {
  RAMET_RETURN_IF_ERROR(refuse_ended("resume"));
  if (was_paused_.exchange(false)) {
    notify_paused();
  }
  for (const auto& vcpu : vcpus_) {
    if (Status resumed = vcpu->resume(); !resumed.ok()) {
      // It has ended since, and knows better why.
      RAMET_RETURN_IF_ERROR(refuse_ended("resume"));
      return resumed;
    }
  }
  return Status();
}

void Machine::notify_paused() {
  for (uint32_t i = 0; i < vcpus_.size(); ++i) {
    with_vcpu(i, [](Vcpu& vcpu) {
      vcpu.notify_paused();
      return Status();
    }).IgnoreError();  // one that runs already
  }
}

Status Machine::pause() {
  was_paused_ = true;
  for (const auto& vcpu : vcpus_) {
    vcpu->request_pause();
  }
  for (const auto& vcpu : vcpus_) {
    vcpu->wait_paused();
  }
  return refuse_ended("pause");
}

void Machine::stop() {
  request_end({EndReason::kStopped, "stopped"});
  for (const auto& vcpu : vcpus_) {
    vcpu->stop();
  }
}

void Machine::request_end(const MachineEnd& end) { finish(end, true); }

void Machine::abandon(const MachineEnd& end) { finish(end, false); }

void Machine::finish(const MachineEnd& end, bool tell) {
  std::vector<std::function<void(const MachineEnd&)>> listeners;
  {
    const std::lock_guard lock(mutex_);
    if (end_) {
      return;
    }
    end_ = end;
    listeners.swap(end_listeners_);
    ended_.notify_all();
  }
  for (const auto& vcpu : vcpus_) {
    vcpu->request_stop();
  }
  if (tell) {
    for (const auto& listener : listeners) {
      listener(end);
    }
  }
}

StatusOr<MachineState> Machine::save() {
  MachineState state;
  state.regions = memory_->regions();
  state.cpuid = cpuid_;
  RAMET_ASSIGN_OR_RETURN(state.clock_ns, vm_->clock_ns());
  for (uint32_t i = 0; i < vcpus_.size(); ++i) {
    RAMET_RETURN_IF_ERROR(annotate(with_vcpu(i,
                                             [&](Vcpu& vcpu) {
                                               RAMET_ASSIGN_OR_RETURN(state.tsc_khz,
                                                                      vcpu.tsc_khz());
                                               RAMET_ASSIGN_OR_RETURN(auto saved, vcpu.save());
                                               state.vcpus.push_back(std::move(saved));
                                               return Status();
                                             }),
                                   "save vCPU %d", i));
  }
  // One TSC for all: the vCPUs were read one after the other, and a guest whose TSCs differ throws
  // the TSC away.
  uint64_t tsc = 0;
  for (const VcpuState& vcpu : state.vcpus) {
    tsc = std::max(tsc, vcpu.tsc);
  }
  for (VcpuState& vcpu : state.vcpus) {
    vcpu.tsc = tsc;
  }
  state.ioapic = ioapic_->save();
  return state;
}

std::optional<MachineEnd> Machine::end() const {
  const std::lock_guard lock(mutex_);
  return end_;
}

std::optional<MachineEnd> Machine::wait_end(uint64_t deadline_ns) const {
  std::unique_lock lock(mutex_);
  const auto is_over = [&] { return end_.has_value(); };
  if (deadline_ns == 0) {
    ended_.wait(lock, is_over);
  } else {
    const std::chrono::steady_clock::time_point deadline{std::chrono::nanoseconds(deadline_ns)};
    ended_.wait_until(lock, deadline, is_over);
  }
  return end_;
}

void Machine::on_end(std::function<void(const MachineEnd&)> function) {
  std::unique_lock lock(mutex_);
  if (!end_) {
    end_listeners_.push_back(std::move(function));
    return;
  }
  const MachineEnd ended = *end_;
  lock.unlock();
  function(ended);
}

void Machine::forget_listeners() {
  {
    const std::lock_guard lock(mutex_);
    end_listeners_.clear();
  }
  tenant_->wait_told();
}

uint64_t Machine::first_exit_ns() const {
  uint64_t first = 0;
  for (const auto& vcpu : vcpus_) {
    const uint64_t ns = vcpu->first_exit_ns();
    first = first == 0 || (ns != 0 && ns < first) ? ns : first;
  }
  return first;
}

uint64_t Machine::exits() const {
  uint64_t total = 0;
  for (const auto& vcpu : vcpus_) {
    total += vcpu->exits();
  }
  return total;
}

StatusOr<uint64_t> Machine::cpu_ns() const {
  uint64_t total = 0;
  for (const auto& vcpu : vcpus_) {
    RAMET_ASSIGN_OR_RETURN(const uint64_t used, vcpu->cpu_ns());
    total += used;
  }
  return total;
}

MachineUse Machine::use() const {
  MachineUse use = {
      .exits = exits(), .interrupts = msi_path_.sent(), .cpu_ns = cpu_ns().value_or(0)};
  for (const auto& vcpu : vcpus_) {
    use.waits += vcpu->waits();
    use.waited_ns += vcpu->waited_ns();
  }
  return use;
}

}  // namespace ramet
