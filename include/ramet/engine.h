// Engine: what templates and sandboxes of one process share: the KVM device, worker threads, the
// reaper.
//
// Thread rule: every method from any thread. Templates and sandboxes keep their engine alive.
// Invariant: nothing of the library is global: two engines know nothing of each other.
#ifndef RAMET_ENGINE_H_
#define RAMET_ENGINE_H_

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <ramet/export.h>

namespace sandbox {

enum class LogLevel : uint8_t { kDebug, kInfo, kWarning, kError };

struct EngineOptions {
  // The KVM device.
  std::string kvm_device = "/dev/kvm";
  // Threads for work that may block (disk reads and writes). 0: the number of cores, at most 2.
  uint32_t workers = 0;
  // Takes the library's log lines, on any of its threads. Nothing is logged without it.
  std::function<void(LogLevel, std::string_view)> log = {};
  // Where the disks of sandboxes keep what is written, as unlinked files.
  std::string scratch_directory = "/var/tmp";
};

class RAMET_EXPORT Engine {
 public:
  // Errors: NotFound, PermissionDenied or Unimplemented for the KVM device (see Reason),
  // ResourceExhausted for threads.
  static absl::StatusOr<std::shared_ptr<Engine>> create(EngineOptions options = {});
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Waits until every sandbox that was killed or destroyed so far is torn down. DeadlineExceeded
  // otherwise.
  absl::Status drain(std::chrono::nanoseconds timeout);

  class Impl;
  // For the library itself.
  const std::shared_ptr<Impl>& impl() const { return impl_; }

 private:
  explicit Engine(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

}  // namespace sandbox

#endif  // RAMET_ENGINE_H_
