// ForkedMachine: the machine of a sandbox wherever it runs: in this process, or in a helper's. And
// GuestPorts: the conversations with its guest.
//
// Thread rule: every method from any thread; resume() and pause() one at a time. GuestPorts may
// outlive its machine, and then answers errors.
// Invariant: destruction leaves nothing of the machine running.
#ifndef RAMET_LIB_INSTANCE_FORKED_MACHINE_H_
#define RAMET_LIB_INSTANCE_FORKED_MACHINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "lib/agent/stream.h"
#include "lib/instance/instance.h"
#include "vmm/base/status.h"
#include "vmm/memory/memory_image.h"
#include "vmm/memory/working_set.h"

namespace ramet {

class GuestPorts {
 public:
  virtual ~GuestPorts() = default;

  // Begins a conversation with a port of the guest, without waiting for the guest: it takes bytes
  // at once, also before the guest runs. ResourceExhausted with Reason::kLimitReached where there
  // are as many as there may be.
  virtual StatusOr<std::unique_ptr<ByteStream>> connect(uint32_t guest_port) = 0;
  // The machine is dead or being killed: every conversation, also one that waits, and every later
  // connect() fails with `reason`. The first call's reason stays. Never blocks.
  virtual void shutdown_all(const Status& reason) = 0;
  // Whether a conversation that says nothing costs no more than memory: no descriptor, no thread.
  virtual bool idle_is_cheap() const = 0;
};

class ForkedMachine {
 public:
  virtual ~ForkedMachine() = default;

  virtual const std::shared_ptr<GuestPorts>& ports() const = 0;
  // CLOCK_MONOTONIC of when it stood ready; 0: when it was given to whoever asks.
  virtual uint64_t ready_ns() const = 0;

  // Sets devices and vCPUs going.
  virtual Status resume() = 0;
  // Returns when no vCPU runs. FailedPrecondition when the machine has ended.
  virtual Status pause() = 0;
  // Ends it without a word to its listener. Never blocks.
  virtual void abandon() = 0;
  // Ends it and returns when nothing of it runs.
  virtual void stop() = 0;

  // Stops it, takes its devices down, and gives what Machine::rewind() makes a shell of: nothing
  // else is called afterwards. Null, and nothing done, where the machine is another process's.
  virtual std::unique_ptr<Machine> take_machine() = 0;
  // What is given back with the machine: whoever takes it keeps this as long. May be null.
  virtual std::shared_ptr<const void> place() const = 0;

  // `function` is called once when the machine ended by itself, with a status that says why; at
  // once when it already has. It must not wait for the machine.
  virtual void on_end(std::function<void(const Status&)> function) = 0;

  // The last that is known; never blocks for longer than a moment.
  virtual InstanceMetrics metrics() = 0;
  // What of guest memory it holds now.
  virtual StatusOr<MemoryUse> memory_use() = 0;
  // As Instance::snapshot(); one at a time with resume() and pause().
  virtual StatusOr<InstanceSnapshot> snapshot() = 0;
  // Which pages of it were written and read. Unimplemented for a machine of another process.
  virtual StatusOr<WorkingSet> touched() = 0;
  // How many of these pages no longer read as the image's. Unimplemented as above.
  virtual StatusOr<uint64_t> changed(const MemoryImage& image,
                                     std::span<const PageRange> pages) = 0;
};

}  // namespace ramet

#endif  // RAMET_LIB_INSTANCE_FORKED_MACHINE_H_
