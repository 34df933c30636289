// Sandbox: one fork of a template: a machine of its own with its own memory, disk, randomness and
// identity.
//
//   auto t = sandbox::Template::build({.rootfs = "python.img"});
//   auto box = sandbox::fork(*t);
//   auto r = box->exec({"python3", "-c", "print(2 + 2)"}, {.timeout = std::chrono::seconds(2)});
//
// Thread rule: exec() from several threads at once; kill(), state() and metrics() from any; moving
// and destroying like any object. Invariant: destruction kills the machine. Nothing that the guest
// does ends, hangs or corrupts this process.
#ifndef RAMET_SANDBOX_H_
#define RAMET_SANDBOX_H_

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <absl/status/status.h>
#include <absl/status/statusor.h>

#include <ramet/export.h>
#include <ramet/options.h>
#include <ramet/outcome.h>
#include <ramet/reason.h>
#include <ramet/template.h>

namespace sandbox {

class RAMET_EXPORT Sandbox {
 public:
  Sandbox(Sandbox&&) noexcept;
  Sandbox& operator=(Sandbox&&) noexcept;
  Sandbox(const Sandbox&) = delete;
  Sandbox& operator=(const Sandbox&) = delete;
  // kill(), without waiting for the teardown.
  ~Sandbox();

  // Runs a command and waits for its end. Legal while Running. What the command did is the result;
  // an error says that the command's fate is unknown: Unavailable or DataLoss when the guest died,
  // hung or broke the protocol (the sandbox is then Gone or Poisoned), Cancelled when it was
  // killed, ResourceExhausted when it reached a limit (the sandbox is then Gone; with
  // Limits::connections it lives), InvalidArgument when the request is out of bounds.
  absl::StatusOr<ExecResult> exec(const std::vector<std::string>& argv,
                                  const ExecOptions& options = {});

  // Stops the vCPUs where they are, and lets them go on. Legal while Running and Paused.
  absl::Status pause();
  absl::Status resume();

  // Ends the machine, from any state and any thread; commands that run end with Cancelled. Does not
  // wait.
  void kill();
  // Waits until the teardown is done. DeadlineExceeded otherwise; FailedPrecondition unless Gone.
  absl::Status wait_gone(std::chrono::nanoseconds timeout);

  State state() const;
  // Why the sandbox is Poisoned or Gone; OK while it is neither.
  absl::Status end_reason() const;
  // The limit that ended it; nothing where none did.
  std::optional<LimitHit> limit_hit() const { return limit_of(end_reason()); }
  Metrics metrics() const;
  std::string hostname() const;

  class Impl;

 private:
  friend absl::StatusOr<Sandbox> fork(const Template&, const ForkOptions&);
  explicit Sandbox(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// A new sandbox: memory copy-on-write from the template, fresh randomness acknowledged by its
// guest, identity set, answering commands. From any thread, any number at once. Errors of a host
// that is short of something carry Reason::kHostBusy and retry_after(); InvalidArgument for limits
// that are negative or whose action does not go with them.
RAMET_EXPORT absl::StatusOr<Sandbox> fork(const Template& from, const ForkOptions& options = {});

}  // namespace sandbox

#endif  // RAMET_SANDBOX_H_
