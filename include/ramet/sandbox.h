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

  // Back to the template, as a new fork of it, from any state but Gone and any number of times:
  // memory, disk, registers and devices are the template's again, connections are dead, randomness
  // is fresh and acknowledged, host name and machine id are new, limits and metrics begin anew.
  // What runs in it ends: exec() returns Cancelled with Reason::kReset. Options of fork() stay.
  // When it fails the sandbox is Poisoned or Gone; FailedPrecondition, and nothing done, when it is
  // Gone already or being reset by another thread. With Isolation::kProcess the fork that it
  // becomes is in another process.
  absl::Status reset(const ResetOptions& options = {});

  // The sandbox as it is now, as a template, while it goes on: what runs in it runs in every fork
  // of the template, from the same instruction on, with the same memory, files and timers. Legal
  // while Running, also while commands run. Its vCPUs stop for milliseconds
  // (Metrics::snapshot_pause); its processes are held from before that until after it, in a fork
  // until its fresh randomness is acknowledged. exec() in flight goes on here; in a fork nobody
  // waits for that command, and it ends there, while what commands left behind goes on. Memory is
  // shared with the template that this was forked from; a branch of a branch forks as fast as its
  // base. The scratch disk's limit counts from here on anew.
  // Errors leave the sandbox Running unless it ended meanwhile, or its agent did not answer: it is
  // Poisoned then. FailedPrecondition when another thread takes one, or with
  // Reason::kProcessesAlive for processes that the agent cannot hold; ResourceExhausted where the
  // host has not got the memory.
  absl::StatusOr<Template> snapshot(const SnapshotOptions& options = {});

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
  friend std::vector<absl::StatusOr<Sandbox>> fork_many(const Template&, size_t,
                                                        const ManyOptions&);
  explicit Sandbox(std::shared_ptr<Impl> impl);
  std::shared_ptr<Impl> impl_;
};

// A new sandbox: memory copy-on-write from the template, fresh randomness acknowledged by its
// guest, identity set, answering commands. From any thread, any number at once. Errors of a host
// that is short of something carry Reason::kHostBusy and retry_after(); InvalidArgument for limits
// that are negative or whose action does not go with them.
RAMET_EXPORT absl::StatusOr<Sandbox> fork(const Template& from, const ForkOptions& options = {});

// So many at once, on threads of the engine's, and an answer for each. Forks that the host has no
// room for wait in order, until the timeout, and are refused then. With ManyOptions::all_or_nothing
// those that went well are Cancelled when one failed.
RAMET_EXPORT std::vector<absl::StatusOr<Sandbox>> fork_many(const Template& from, size_t count,
                                                            const ManyOptions& options = {});

}  // namespace sandbox

#endif  // RAMET_SANDBOX_H_
