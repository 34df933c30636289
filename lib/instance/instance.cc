#include "lib/instance/instance.h"

#include <string>

#include <absl/strings/str_format.h>

#include "devices/block/device.h"
#include "lib/instance/reasons.h"
#include "vmm/base/clock.h"

namespace ramet {
namespace {

constexpr size_t kConsoleLinesInMessages = 4;

std::string disk_id(uint32_t slot) { return slot == kRootSlot ? "ramet-root" : "ramet-scratch"; }

uint64_t metric(const virtio::VirtioDevice& device, std::string_view name) {
  for (const virtio::Metric& row : device.metrics()) {
    if (row.name == name) {
      return row.value;
    }
  }
  return 0;
}

}  // namespace

Instance::Instance(const InstanceHost& host, std::unique_ptr<Machine> machine,
                   InstanceOptions options)
    : host_(host),
      machine_(std::move(machine)),
      disks_(std::move(options.disks)),
      limits_(options.limits),
      disk_pace_(limits_.disk_rate),
      executor_(host_.workers, machine_->tenant()),
      console_(host_.calls, std::move(options.console)),
      generation_(&machine_->memory(), GuestAddr{x86::kVmGenIdGuidAddress},
                  &machine_->irq(x86::kGedGsi)),
      power_({.power_off =
                  [this] {
                    machine_->request_end({EndReason::kPowerOff, "the guest powered off"});
                  },
              .reset =
                  [this] {
                    machine_->request_end({EndReason::kReset, "the guest asked for a reset"});
                  }}) {}

StatusOr<std::unique_ptr<Instance>> Instance::create(const InstanceHost& host,
                                                     std::unique_ptr<GuestMemory> memory,
                                                     uint32_t vcpus, InstanceOptions options) {
  const Kvm& kvm = *host.machine.kvm;
  auto cpuid = x86::baseline(kvm.supported_cpuid(), {.tsc_deadline = kvm.has_tsc_deadline()});
  RAMET_ASSIGN_OR_RETURN(auto machine,
                         Machine::create(host.machine, std::move(memory), vcpus, std::move(cpuid)));
  std::unique_ptr<Instance> self(new Instance(host, std::move(machine), std::move(options)));
  RAMET_RETURN_IF_ERROR(self->add_bus_devices(nullptr));
  RAMET_RETURN_IF_ERROR(self->add_disks(nullptr));
  RAMET_RETURN_IF_ERROR(self->add_vsock(nullptr));
  RAMET_RETURN_IF_ERROR(self->fill_empty_slots());
  RAMET_RETURN_IF_ERROR(self->begin_limits());
  return self;
}

StatusOr<std::unique_ptr<Instance>> Instance::restore(const InstanceHost& host,
                                                      std::unique_ptr<Machine> machine,
                                                      const InstanceState& state,
                                                      InstanceOptions options) {
  std::unique_ptr<Instance> self(new Instance(host, std::move(machine), std::move(options)));
  RAMET_RETURN_IF_ERROR(self->add_bus_devices(&state.serial));
  RAMET_RETURN_IF_ERROR(self->add_disks(&state));
  RAMET_RETURN_IF_ERROR(self->add_vsock(&state));
  RAMET_RETURN_IF_ERROR(self->fill_empty_slots());
  self->devices_quiet_ = true;
  RAMET_RETURN_IF_ERROR(self->machine_->restore_time(state.machine));
  RAMET_RETURN_IF_ERROR(self->begin_limits());
  return self;
}

Instance::~Instance() {
  end_limits();
  if (machine_ != nullptr) {
    machine_->stop();
    machine_->forget_listeners();
  }
}

std::unique_ptr<Machine> Instance::take_machine(std::unique_ptr<Instance> instance) {
  instance->end_limits();
  // A machine that has ended does not run either.
  instance->machine_->pause().IgnoreError();
  instance->machine_->forget_listeners();
  // Before the machine goes: a request that a worker is at may still want it.
  for (auto& slot : instance->slots_) {
    slot.reset();
  }
  return std::move(instance->machine_);
}

Status Instance::begin_limits() {
  machine_->set_rates(limits_.rates);
  if (!limits_.watched()) {
    return Status();
  }
  if (host_.watch == nullptr) {
    return absl::FailedPreconditionError("limits of time and memory, and nobody to watch them");
  }
  RAMET_ASSIGN_OR_RETURN(watch_id_, host_.watch->add(this, limits_, machine_->vcpus()));
  return Status();
}

void Instance::end_limits() {
  if (watch_id_ != 0) {
    host_.watch->remove(watch_id_);
    watch_id_ = 0;
  }
}

Status Instance::add_bus_devices(const SerialState* serial) {
  IrqLine* line = &machine_->irq(x86::kSerialGsi);
  const auto sink = [this](std::byte byte) { console_.append(byte); };
  if (serial == nullptr) {
    serial_ = std::make_unique<Serial>(line, sink);
  } else {
    RAMET_ASSIGN_OR_RETURN(serial_, Serial::create_from_state(line, sink, *serial));
  }
  RAMET_RETURN_IF_ERROR(
      machine_->pio().insert(x86::kSerialPort, x86::kSerialPortSize, serial_.get()));
  return machine_->pio().insert(x86::kPowerPort, x86::kPowerPortSize, &power_);
}

Status Instance::add_disks(const InstanceState* state) {
  if (disks_.root != nullptr) {
    RAMET_RETURN_IF_ERROR(
        add_disk(kRootSlot, std::make_unique<block::FileBackend>(disks_.root), state));
  }
  if (disks_.scratch != nullptr) {
    block::OverlayOptions overlay = {.make_file = host_.make_overlay_file,
                                     .max_bytes = disks_.scratch->size_bytes()};
    if (limits_.disk_bytes != 0 && limits_.disk_bytes < overlay.max_bytes) {
      overlay.max_bytes = limits_.disk_bytes;
      overlay.on_full = [this](uint64_t wanted) { on_disk_full(wanted); };
    }
    auto scratch = std::make_unique<block::CowBackend>(disks_.scratch, std::move(overlay));
    scratch_ = scratch.get();
    RAMET_RETURN_IF_ERROR(add_disk(kScratchSlot, std::move(scratch), state));
  }
  return Status();
}

uint64_t Instance::pace_disk(uint64_t bytes) {
  const DiskPace::Answer answer = disk_pace_.take(bytes, monotonic_ns());
  if (answer.hit) {
    machine_->request_end_soon(limit_end(*answer.hit));
  }
  return answer.wait_until_ns;
}

void Instance::on_disk_full(uint64_t wanted) {
  if (limits_.disk_full_ends) {
    machine_->request_end_soon(limit_end({LimitKind::kDiskOverlay, limits_.disk_bytes, wanted}));
  }
}

Status Instance::add_disk(uint32_t slot, std::unique_ptr<block::Backend> backend,
                          const InstanceState* state) {
  block::BlockOptions options = {.id = disk_id(slot), .executor = &executor_};
  if (disk_pace_.limits()) {
    options.pace = [this](uint64_t bytes) { return pace_disk(bytes); };
  }
  if (state == nullptr) {
    RAMET_ASSIGN_OR_RETURN(auto device, block::BlockDevice::create(std::move(backend), options));
    return add_transport(slot, std::move(device), nullptr);
  }
  if (!state->slots[slot]) {
    return absl::DataLossError(
        absl::StrFormat("the snapshot has no state of the disk in slot %d", slot));
  }
  RAMET_ASSIGN_OR_RETURN(auto device, block::BlockDevice::create_from_state(
                                          std::move(backend), options, state->slots[slot]->device));
  return add_transport(slot, std::move(device), state);
}

Status Instance::add_vsock(const InstanceState* state) {
  const VsockOptions options = {.host_port_offset = host_.host_port_offset,
                                .max_connections = limits_.connections};
  std::unique_ptr<Vsock> device;
  if (state == nullptr) {
    device = Vsock::create(options);
  } else if (!state->slots[kVsockSlot]) {
    return absl::DataLossError("the snapshot has no state of the vsock device");
  } else {
    RAMET_ASSIGN_OR_RETURN(device,
                           Vsock::create_from_state(options, state->slots[kVsockSlot]->device));
  }
  vsock_ = device.get();
  return add_transport(kVsockSlot, std::move(device), state);
}

Status Instance::add_transport(uint32_t slot, std::unique_ptr<virtio::VirtioDevice> device,
                               const InstanceState* state) {
  const virtio::TransportParts parts = {.memory = &machine_->memory(),
                                        .irq = &machine_->irq(x86::virtio_mmio_gsi(slot)),
                                        .log = host_.log};
  auto transport = state == nullptr ? virtio::MmioTransport::create(std::move(device), parts)
                                    : virtio::MmioTransport::create_from_state(
                                          std::move(device), parts, *state->slots[slot]);
  RAMET_RETURN_IF_ERROR(annotate(transport.status(), "virtio-mmio slot %d", slot));
  slots_[slot] = std::move(*transport);
  return machine_->mmio().insert(x86::virtio_mmio_address(slot), x86::kVirtioMmioRegisterSize,
                                 slots_[slot].get());
}

Status Instance::fill_empty_slots() {
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot] == nullptr) {
      RAMET_RETURN_IF_ERROR(machine_->mmio().insert(x86::virtio_mmio_address(slot),
                                                    x86::kVirtioMmioRegisterSize, &empty_slot_));
    }
  }
  return Status();
}

Status Instance::resume() {
  if (devices_quiet_) {
    serial_->resume();
    for (const auto& slot : slots_) {
      if (slot != nullptr) {
        slot->resume();
      }
    }
    devices_quiet_ = false;
  }
  Status resumed = machine_->resume();
  if (resumed.ok()) {
    return resumed;
  }
  // A limit may have been reached before the machine ran at all.
  const auto end = machine_->end();
  return end && end->reason != EndReason::kStopped ? describe_end(*end) : resumed;
}

StatusOr<InstanceState> Instance::save() {
  RAMET_RETURN_IF_ERROR(machine_->pause());
  InstanceState state;
  devices_quiet_ = true;
  for (uint32_t slot = 0; slot < slots_.size(); ++slot) {
    if (slots_[slot] == nullptr) {
      continue;
    }
    slots_[slot]->quiesce();
    RAMET_ASSIGN_OR_RETURN(state.slots[slot], slots_[slot]->save());
  }
  state.serial = serial_->save();
  // The vCPUs and the IOAPIC last: draining the devices may have raised interrupts.
  RAMET_ASSIGN_OR_RETURN(state.machine, machine_->save());
  return state;
}

Status Instance::take(const Pagemap& pagemap, InstanceSnapshot* snapshot) {
  RAMET_ASSIGN_OR_RETURN(snapshot->state, save());
  RAMET_ASSIGN_OR_RETURN(snapshot->scratch, freeze_scratch());
  return snapshot->pages.take(pagemap, machine_->memory());
}

StatusOr<InstanceSnapshot> Instance::snapshot(const MakeRoom& make_room) {
  RAMET_ASSIGN_OR_RETURN(const Pagemap* pagemap, this->pagemap());
  InstanceSnapshot snapshot;
  // What costs time is had ahead of the pause: the room for the pages. A guest that goes on writing
  // meanwhile gets some more at the pause's expense.
  RAMET_ASSIGN_OR_RETURN(const uint64_t expected, pagemap->private_bytes(machine_->memory()));
  RAMET_ASSIGN_OR_RETURN(snapshot.pages, make_room(expected));
  Status taken = machine_->pause();
  const uint64_t paused_ns = monotonic_ns();
  if (taken.ok()) {
    taken = take(*pagemap, &snapshot);
  }
  const Status resumed = resume();
  snapshot.pause_ns = monotonic_ns() - paused_ns;
  RAMET_RETURN_IF_ERROR(taken);
  RAMET_RETURN_IF_ERROR(resumed);
  return snapshot;
}

StatusOr<std::shared_ptr<const block::LayerStack>> Instance::freeze_scratch() {
  if (scratch_ == nullptr) {
    return std::shared_ptr<const block::LayerStack>();
  }
  return scratch_->freeze();
}

Status Instance::describe_end(const MachineEnd& end) const {
  const std::string console = console_.last_lines(kConsoleLinesInMessages);
  const std::string text =
      "the guest died: " + end.detail + (console.empty() ? "" : "; its console ends: " + console);
  if (end.reason == EndReason::kRefusedCall) {
    return with_reason(absl::DataLossError(end.detail), reason::kCallRefused);
  }
  if (end.limit) {
    return limit_status(*end.limit);
  }
  if (end.reason == EndReason::kHostError) {
    return absl::InternalError("the machine stopped: " + end.detail);
  }
  return with_reason(absl::UnavailableError(text), reason::kGuestDied);
}

void Instance::on_end(std::function<void(const Status&)> function) {
  machine_->on_end([this, function = std::move(function)](const MachineEnd& end) {
    const Status status = describe_end(end);
    VsockHost streams = vsock();
    // The listener first: whoever is woken by a broken stream finds the reason already there. It
    // may have given this instance away: on the caller's thread nobody waits for its return.
    function(status);
    streams.shutdown_all(status);
  });
}

InstanceMetrics Instance::metrics() const {
  InstanceMetrics metrics;
  const MachineUse use = machine_->use();
  metrics.vcpu_exits = use.exits;
  metrics.first_exit_ns = machine_->first_exit_ns();
  metrics.interrupts = use.interrupts;
  metrics.cpu_ns = use.cpu_ns;
  const DiskPace::Waits disk_waits = disk_pace_.waits();
  metrics.throttled = use.waits + disk_waits.count;
  metrics.throttled_ns = use.waited_ns + disk_waits.total_ns;
  const VsockMetrics vsock = vsock_->host().metrics();
  metrics.vsock_bytes_in = vsock.tx_bytes;
  metrics.vsock_bytes_out = vsock.rx_bytes;
  for (const uint32_t slot : {kRootSlot, kScratchSlot}) {
    if (slots_[slot] != nullptr) {
      metrics.disk_bytes_read += metric(*slots_[slot]->device(), "read_bytes");
      metrics.disk_bytes_written += metric(*slots_[slot]->device(), "written_bytes");
    }
  }
  metrics.private_disk_bytes = scratch_ == nullptr ? 0 : scratch_->overlay_bytes();
  return metrics;
}

StatusOr<const Pagemap*> Instance::pagemap() const {
  if (host_.watch == nullptr) {
    return absl::FailedPreconditionError("what a machine holds of memory, and nobody to look");
  }
  return host_.watch->pagemap();
}

StatusOr<MemoryUse> Instance::memory_use() const {
  RAMET_ASSIGN_OR_RETURN(const Pagemap* pagemap, this->pagemap());
  return pagemap->use(machine_->memory());
}

StatusOr<WorkingSet> Instance::touched() const {
  RAMET_ASSIGN_OR_RETURN(const Pagemap* pagemap, this->pagemap());
  return pagemap->touched(machine_->memory());
}

}  // namespace ramet
