// Instance: a machine with all its devices. The only code that knows every device.
//
// Thread rule: create or restore, then from any thread: machine(), vsock(), metrics(), on_end().
// resume(), save(), snapshot() and announce_generation() one at a time. Invariant: destruction
// stops the vCPUs before any device goes.
#ifndef RAMET_LIB_INSTANCE_INSTANCE_H_
#define RAMET_LIB_INSTANCE_INSTANCE_H_

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "devices/block/cow_backend.h"
#include "devices/block/file_backend.h"
#include "devices/legacy/power.h"
#include "devices/legacy/serial.h"
#include "devices/legacy/vmgenid.h"
#include "devices/virtio/empty_slot.h"
#include "devices/virtio/mmio.h"
#include "devices/vsock/device.h"
#include "lib/instance/console.h"
#include "lib/instance/disk_pace.h"
#include "lib/instance/instance_state.h"
#include "lib/instance/limit_watch.h"
#include "lib/instance/limits.h"
#include "lib/instance/machine_executor.h"
#include "vmm/base/log_sink.h"
#include "vmm/io/worker_pool.h"
#include "vmm/machine/machine.h"
#include "vmm/memory/page_capture.h"

namespace ramet {

// What an instance takes from the process that it lives in; all of it outlives the instance.
struct InstanceHost {
  Machine::Host machine;
  WorkerPool* workers = nullptr;  // for what may block
  WorkerPool* calls = nullptr;    // as Console's
  LogSink* log = nullptr;
  LimitWatch* watch = nullptr;  // without, limits of time and memory are refused
  // A file of `size` bytes for what the guest writes to its scratch disk. Blocks.
  std::function<StatusOr<UniqueFd>(uint64_t size)> make_overlay_file = {};
  uint32_t host_port_offset = 0;  // different for each instance: where its vsock's host ports begin
};

// The disks of a template and of all its forks: shared and immutable.
struct Disks {
  std::shared_ptr<const block::DiskFile> root;       // vda, read-only; may be null
  std::shared_ptr<const block::LayerStack> scratch;  // vdb, copy-on-write; may be null
};

struct InstanceOptions {
  Disks disks = {};
  std::function<void(std::string_view)> console = {};
  InstanceLimits limits = {};
};

struct InstanceMetrics {
  uint64_t vcpu_exits = 0;
  uint64_t interrupts = 0;
  uint64_t cpu_ns = 0;
  uint64_t throttled = 0;  // how often a vCPU was made to wait
  uint64_t throttled_ns = 0;
  uint64_t vsock_bytes_in = 0;
  uint64_t vsock_bytes_out = 0;
  uint64_t disk_bytes_read = 0;
  uint64_t disk_bytes_written = 0;
  uint64_t private_disk_bytes = 0;
  uint64_t first_exit_ns = 0;  // CLOCK_MONOTONIC; 0 before it

  friend bool operator==(const InstanceMetrics&, const InstanceMetrics&) = default;
};

// A running instance as it was at one moment.
struct InstanceSnapshot {
  InstanceState state = {};
  std::shared_ptr<const block::LayerStack> scratch = {};  // null without a scratch disk
  PageCapture pages = {};
  uint64_t pause_ns = 0;  // from the last vCPU's stop to the first one's start
};

class Instance : private WatchedMachine {
 public:
  // A fresh machine, paused, its memory as given.
  static StatusOr<std::unique_ptr<Instance>> create(const InstanceHost& host,
                                                    std::unique_ptr<GuestMemory> memory,
                                                    uint32_t vcpus, InstanceOptions options);
  // A machine in a saved state, paused; nothing of it acts before resume(). `machine` is that of
  // the same state (Machine::restore()), whose clocks this sets.
  static StatusOr<std::unique_ptr<Instance>> restore(const InstanceHost& host,
                                                     std::unique_ptr<Machine> machine,
                                                     const InstanceState& state,
                                                     InstanceOptions options);
  ~Instance() override;

  // Stops it where it is, takes its devices down, and gives what Machine::rewind() makes a shell
  // of.
  static std::unique_ptr<Machine> take_machine(std::unique_ptr<Instance> instance);

  Machine& machine() { return *machine_; }
  VsockHost vsock() const { return vsock_->host(); }
  const Console& console() const { return console_; }

  // Sets devices and vCPUs going.
  Status resume();
  // Pauses the vCPUs, drains the devices, and takes their state. The instance stays so.
  StatusOr<InstanceState> save();
  // After save(): what the guest wrote to its scratch disk becomes a layer of a new stack; null
  // without such a disk.
  StatusOr<std::shared_ptr<const block::LayerStack>> freeze_scratch();
  // While it runs: pauses it, takes all of the above and the pages that are its own, and sets it
  // going again: the conversations with its guest live on in it, and are not in the snapshot. Where
  // that fails it goes on all the same, unless it has ended. FailedPrecondition without
  // InstanceHost::watch.
  // `make_room` makes it for the pages, of so many bytes as they are now.
  using MakeRoom = std::function<StatusOr<PageCapture>(uint64_t expected_bytes)>;
  StatusOr<InstanceSnapshot> snapshot(const MakeRoom& make_room = PageCapture::create);
  // Writes a VM generation id: before the first boot, and as a change with its event in a restored
  // machine.
  Status write_generation(const GenerationId& id) { return generation_.write(id); }
  Status change_generation(const GenerationId& id) { return generation_.change(id); }

  // `function` is called once when the machine ended by itself, as Machine::on_end() calls, with a
  // status that says why. The vsock's streams are woken with the same.
  void on_end(std::function<void(const Status&)> function);

  InstanceMetrics metrics() const;
  // Of guest memory, while it runs or not. FailedPrecondition without InstanceHost::watch.
  StatusOr<MemoryUse> memory_use() const;
  // Pages of it that were written and read, as Pagemap::touched() has them. The same error.
  StatusOr<WorkingSet> touched() const;

 private:
  Instance(const InstanceHost& host, std::unique_ptr<Machine> machine, InstanceOptions options);
  Status add_bus_devices(const SerialState* serial);
  Status add_disks(const InstanceState* state);
  Status add_disk(uint32_t slot, std::unique_ptr<block::Backend> backend,
                  const InstanceState* state);
  Status add_vsock(const InstanceState* state);
  Status add_transport(uint32_t slot, std::unique_ptr<virtio::VirtioDevice> device,
                       const InstanceState* state);
  Status fill_empty_slots();
  Status describe_end(const MachineEnd& end) const;
  // Between pause and resume().
  Status take(const Pagemap& pagemap, InstanceSnapshot* snapshot);
  Status begin_limits();
  void end_limits();
  StatusOr<const Pagemap*> pagemap() const;
  // How long the next request waits after one of so many bytes; with a disk's lock held.
  uint64_t pace_disk(uint64_t bytes);
  // With the disk's lock held.
  void on_disk_full(uint64_t wanted);

  // WatchedMachine, on the watch's thread:
  StatusOr<uint64_t> cpu_ns() override { return machine_->cpu_ns(); }
  StatusOr<uint64_t> private_bytes(const Pagemap& pagemap) override {
    return pagemap.private_bytes(machine_->memory());
  }
  void count_cpu(uint64_t more_ns) override { machine_->count_cpu(more_ns); }
  void end(const MachineEnd& end) override { machine_->request_end(end); }
  std::shared_ptr<jail::Tenant> tenant() override { return machine_->tenant(); }

  const InstanceHost host_;
  // Before the devices: they use its memory and interrupt lines.
  std::unique_ptr<Machine> machine_;
  const Disks disks_;
  const InstanceLimits limits_;
  DiskPace disk_pace_;
  uint64_t watch_id_ = 0;  // 0: nobody watches
  MachineExecutor executor_;
  Console console_;
  const VmGenId generation_;
  std::unique_ptr<Serial> serial_;
  PowerDevice power_;
  virtio::EmptySlot empty_slot_;
  std::array<std::unique_ptr<virtio::MmioTransport>, x86::kVirtioMmioSlots> slots_;
  Vsock* vsock_ = nullptr;                // owned by its transport
  block::CowBackend* scratch_ = nullptr;  // owned by its device
  bool devices_quiet_ = false;            // resume() has to set them going
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_INSTANCE_H_
