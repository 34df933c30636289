// Command: one running command: its process, its pipes, its timeout, and what its connection hears
// of it.
//
// Thread rule: one thread, that of the Loop.
// Invariant: Exit is sent once, after all output that was read. Output is read only while the
// outlet takes it, and at most kStdinWindowBytes of input are held.
//
// When the command ended but a grandchild keeps an output pipe open, output is forwarded for
// kDrainNs more, then what the pipe holds at that moment; then Exit is sent. The grandchild lives
// on (a service started by a command is legitimate; Freeze will name it).
#ifndef RAMET_LIB_AGENT_GUEST_COMMAND_H_
#define RAMET_LIB_AGENT_GUEST_COMMAND_H_

#include <sys/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lib/agent/guest/cgroups.h"
#include "lib/agent/guest/loop.h"
#include "lib/agent/wire.h"
#include "vmm/base/unique_fd.h"

namespace ramet::guest {

inline constexpr uint64_t kDrainNs = 100'000'000;

// Where a command's frames go.
class Outlet {
 public:
  virtual ~Outlet() = default;
  // A whole frame; always taken.
  virtual void send_frame(std::span<const std::byte> frame) = 0;
  // Nothing more may be read from the command until Command::on_outlet_space().
  virtual bool full() const = 0;
};

class Command {
 public:
  // All outlive the command, but the outlet only until abandon().
  Command(Loop& loop, Cgroups& cgroups, Outlet& outlet)
      : loop_(loop), outlet_(&outlet), cgroup_(cgroups) {}

  // Starts the process, or sends an Exit that says why not (then finished() is true). Users are
  // looked up under `etc`.
  void start(const wire::ExecRequest& request, const std::string& etc);

  // From the connection. False when the host broke the protocol.
  bool on_stdin(std::span<const std::byte> data);
  bool on_stdin_eof();
  void on_signal(int number);
  void on_outlet_space();
  // The connection is gone: kill everything, say nothing more.
  void abandon();

  // From the server.
  void on_exited(int wait_status);
  void on_clock(uint64_t now);
  uint64_t next_deadline_ns() const;

  pid_t pid() const { return pid_; }
  // The process is reaped, or never was, and the Exit is sent, or nobody hears it.
  bool finished() const { return finished_; }

 private:
  struct Output {
    wire::MessageType type;
    UniqueFd fd;
    std::optional<size_t> rest;  // set after the drain time: bytes still to forward
    Watch watch;                 // after fd: goes first
  };

  void send(const wire::Message& message);
  void fail_start(int error, const std::string& text);
  bool open_pipes(const wire::ExecRequest& request, std::array<UniqueFd, 4>& child_ends);
  void watch_pipes();
  void read_output(Output& output);
  void close_output(Output& output);
  void write_stdin();
  void close_stdin();
  void give_credit(bool closed);
  void end_drain();
  void finish_if_done();
  wire::Exit exit_message();
  void kill_all();

  Loop& loop_;
  Outlet* outlet_;
  ExecCgroup cgroup_;
  pid_t pid_ = -1;
  std::optional<int> wait_status_;
  bool finished_ = false;
  bool timed_out_ = false;
  uint64_t timeout_at_ns_ = 0;
  uint64_t drain_until_ns_ = 0;

  std::array<Output, 2> outputs_ = {Output{wire::MessageType::kStdout, {}, {}, {}},
                                    Output{wire::MessageType::kStderr, {}, {}, {}}};
  UniqueFd report_;  // StartFailure
  UniqueFd stdin_;
  Watch stdin_watch_;
  std::vector<std::byte> stdin_pending_;
  bool stdin_offered_ = false;
  bool stdin_eof_ = false;  // the host said so
  bool stdin_accepting_ = false;
  size_t credit_ = 0;  // taken by the command, not yet given back
  size_t window_ = wire::kStdinWindowBytes;
};

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_COMMAND_H_
