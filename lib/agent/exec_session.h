// ExecSession: the host's side of one running command: input, output, timeout and exit, all from
// one thread. AgentClient::exec is its only user.
//
// Thread rule: the thread of the conversation.
// Invariant: holds at most spec.capture_bytes of each output, and one frame of input.
#ifndef RAMET_LIB_AGENT_EXEC_SESSION_H_
#define RAMET_LIB_AGENT_EXEC_SESSION_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "lib/agent/client.h"
#include "lib/agent/conversation.h"

namespace ramet {

class ExecSession {
 public:
  // Both are kept by reference and outlive the session.
  ExecSession(Conversation& conversation, const ExecSpec& spec)
      : conversation_(conversation), spec_(spec) {}

  // Queues the request. InvalidArgument when it breaks a limit; then nothing was queued.
  Status start();
  // Until the command's exit, its timeout, or an error.
  StatusOr<ExecOutcome> run();

 private:
  // Each says whether it did anything, so that run() waits only when nothing did.
  StatusOr<bool> pump_output();
  StatusOr<bool> pump_input();
  Status queue_input(std::span<const std::byte> data);
  Status check_clock();
  // Kills the command, once; it has kKillGraceNs to be gone.
  Status kill();
  // What of `data` is within the limit of output; beyond it the command is killed.
  StatusOr<std::span<const std::byte>> within_limit(std::span<const std::byte> data);
  Status on_message(wire::Message& message);
  Status on_data(std::span<const std::byte> all, bool is_stderr);
  Status on_credit(const wire::StdinCredit& credit);
  Status on_exit(const wire::Exit& exit);

  Conversation& conversation_;
  const ExecSpec& spec_;
  ExecOutcome outcome_;
  uint64_t deadline_ns_ = 0;  // of the command, then of the agent's answer to the kill; 0 = none
  bool killed_ = false;
  bool exited_ = false;
  bool input_open_ = false;
  size_t window_ = wire::kStdinWindowBytes;  // input bytes that may be sent now
};

}  // namespace ramet

#endif  // RAMET_LIB_AGENT_EXEC_SESSION_H_
