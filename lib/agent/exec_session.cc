#include "lib/agent/exec_session.h"

#include <algorithm>
#include <array>
#include <csignal>
#include <limits>
#include <utility>
#include <vector>

#include <absl/strings/str_format.h>

#include "vmm/base/checked.h"
#include "vmm/base/clock.h"

namespace ramet {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

// Whole milliseconds, rounded up so that a short timeout is not none; the longest where it does not
// fit: the host's own clock keeps the exact time.
uint32_t guard_ms(uint64_t timeout_ns) {
  const uint64_t ms = timeout_ns / kNsPerMs + (timeout_ns % kNsPerMs != 0 ? 1 : 0);
  return static_cast<uint32_t>(std::min<uint64_t>(ms, std::numeric_limits<uint32_t>::max()));
}

}  // namespace

Status ExecSession::start() {
  wire::ExecRequest request;
  request.argv = spec_.argv;
  request.env = spec_.env;
  request.cwd = spec_.cwd;
  request.user = spec_.user;
  request.has_stdin = spec_.stdin_source != nullptr;
  request.timeout_ms = guard_ms(spec_.timeout_ns);
  if (const Status queued = conversation_.queue(request); !queued.ok()) {
    return annotate(queued,
                    "%d arguments and %d environment entries (at most %d, "
                    "%d, and %d bytes in all)",
                    spec_.argv.size(), spec_.env.size(), wire::kMaxArguments, wire::kMaxEnvironment,
                    wire::kMaxExecBytes);
  }
  if (spec_.timeout_ns != 0) {
    deadline_ns_ = checked_add(monotonic_ns(), spec_.timeout_ns).value_or(0);
  }
  input_open_ = request.has_stdin;
  return Status();
}

StatusOr<ExecOutcome> ExecSession::run() {
  while (!exited_) {
    RAMET_RETURN_IF_ERROR(check_clock());
    RAMET_ASSIGN_OR_RETURN(const bool read, pump_output());
    if (exited_) {
      break;
    }
    RAMET_ASSIGN_OR_RETURN(const bool took, pump_input());
    RAMET_ASSIGN_OR_RETURN(const bool wrote, conversation_.write_some());
    if (read || took || wrote) {
      continue;
    }
    const Status waited = conversation_.wait(deadline_ns_);
    const bool clock_ran_out =
        deadline_ns_ != 0 && waited.code() == absl::StatusCode::kDeadlineExceeded;
    if (!waited.ok() && !clock_ran_out) {
      return waited;
    }
  }
  return std::move(outcome_);
}

Status ExecSession::check_clock() {
  if (deadline_ns_ == 0 || monotonic_ns() < deadline_ns_) {
    return Status();
  }
  if (killed_) {
    const std::string why =
        outcome_.timed_out
            ? absl::StrFormat("that ran over its %d ms", spec_.timeout_ns / kNsPerMs)
            : absl::StrFormat("that wrote more than %d bytes", spec_.max_output_bytes);
    return absl::DeadlineExceededError(
        absl::StrFormat("the agent did not report the kill of a command %s within %d ms", why,
                        kKillGraceNs / kNsPerMs));
  }
  outcome_.timed_out = true;
  return kill();
}

Status ExecSession::kill() {
  killed_ = true;
  input_open_ = false;
  deadline_ns_ = monotonic_ns() + kKillGraceNs;
  return conversation_.queue(wire::Signal{SIGKILL});
}

StatusOr<std::span<const std::byte>> ExecSession::within_limit(std::span<const std::byte> data) {
  const uint64_t before = outcome_.output_bytes;
  outcome_.output_bytes += data.size();
  if (spec_.max_output_bytes == 0 || outcome_.output_bytes <= spec_.max_output_bytes) {
    return data;
  }
  outcome_.output_limited = true;
  if (!killed_) {
    RAMET_RETURN_IF_ERROR(kill());
  }
  return data.first(spec_.max_output_bytes - std::min(before, spec_.max_output_bytes));
}

StatusOr<bool> ExecSession::pump_output() {
  RAMET_ASSIGN_OR_RETURN(auto message, conversation_.read_some());
  if (!message.has_value()) {
    return false;
  }
  RAMET_RETURN_IF_ERROR(on_message(*message));
  return true;
}

StatusOr<bool> ExecSession::pump_input() {
  if (!input_open_ || window_ == 0 || conversation_.has_queued()) {
    return false;
  }
  std::array<std::byte, wire::kMaxDataBytes> buffer;
  const auto part = std::span(buffer).first(std::min(window_, buffer.size()));
  RAMET_ASSIGN_OR_RETURN(const IoResult result, spec_.stdin_source->try_read(part));
  switch (result.state) {
    case IoResult::State::kMoved:
      RAMET_RETURN_IF_ERROR(queue_input(part.first(std::min(result.bytes, part.size()))));
      return true;
    case IoResult::State::kEnd:
      input_open_ = false;
      RAMET_RETURN_IF_ERROR(conversation_.queue(wire::StdinEof{}));
      return true;
    case IoResult::State::kWouldBlock:
      break;
  }
  return false;
}

Status ExecSession::queue_input(std::span<const std::byte> data) {
  window_ -= data.size();
  return conversation_.queue(wire::Stdin{{data.begin(), data.end()}});
}

Status ExecSession::on_message(wire::Message& message) {
  if (const auto* out = std::get_if<wire::Stdout>(&message)) {
    return on_data(out->data, false);
  }
  if (const auto* err = std::get_if<wire::Stderr>(&message)) {
    return on_data(err->data, true);
  }
  if (const auto* credit = std::get_if<wire::StdinCredit>(&message)) {
    return on_credit(*credit);
  }
  if (const auto* exit = std::get_if<wire::Exit>(&message)) {
    return on_exit(*exit);
  }
  return out_of_turn(message, "output or exit of a command");
}

Status ExecSession::on_data(std::span<const std::byte> all, bool is_stderr) {
  RAMET_ASSIGN_OR_RETURN(const auto data, within_limit(all));
  if (data.empty()) {
    return Status();
  }
  const OutputSink& sink = is_stderr ? spec_.stderr_sink : spec_.stdout_sink;
  if (sink) {
    return sink(data);
  }
  std::string& captured = is_stderr ? outcome_.stderr_data : outcome_.stdout_data;
  const size_t room = spec_.capture_bytes - std::min(spec_.capture_bytes, captured.size());
  const size_t take = std::min(room, data.size());
  std::ranges::transform(data.first(take), std::back_inserter(captured),
                         [](std::byte byte) { return static_cast<char>(byte); });
  if (take < data.size()) {
    (is_stderr ? outcome_.stderr_truncated : outcome_.stdout_truncated) = true;
  }
  return Status();
}

Status ExecSession::on_credit(const wire::StdinCredit& credit) {
  if (credit.bytes > wire::kStdinWindowBytes - window_) {
    return absl::DataLossError(
        absl::StrFormat("the agent gave back %d bytes of stdin window, %d were outstanding",
                        credit.bytes, wire::kStdinWindowBytes - window_));
  }
  window_ += credit.bytes;
  input_open_ = input_open_ && !credit.closed;
  return Status();
}

Status ExecSession::on_exit(const wire::Exit& exit) {
  switch (exit.kind) {
    case wire::Exit::Kind::kExited:
      outcome_.kind = ExecOutcome::Kind::kExited;
      outcome_.exit_code = exit.code;
      break;
    case wire::Exit::Kind::kSignalled:
      outcome_.kind = ExecOutcome::Kind::kSignalled;
      outcome_.signal = exit.code;
      break;
    case wire::Exit::Kind::kFailedToStart:
      return errno_status(
          exit.code, absl::StrFormat("start the command in the guest: %s", printable(exit.text)));
  }
  // The guest's own guard fires a moment after ours; a kill for output is no timeout.
  outcome_.timed_out = outcome_.timed_out || (exit.timed_out && !outcome_.output_limited);
  exited_ = true;
  return Status();
}

}  // namespace ramet
