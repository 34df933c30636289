#include "lib/agent/client.h"

#include <algorithm>
#include <array>
#include <utility>

#include <absl/strings/str_format.h>
#include <absl/strings/str_join.h>

#include "lib/agent/exec_session.h"
#include "vmm/base/clock.h"
#include "vmm/base/syscall.h"

namespace ramet {

StatusOr<IoResult> SpanSource::try_read(std::span<std::byte> into) {
  if (rest_.empty()) {
    return IoResult::end();
  }
  const size_t size = std::min(into.size(), rest_.size());
  std::ranges::copy(rest_.first(size), into.begin());
  rest_ = rest_.subspan(size);
  return IoResult::moved(size);
}

StatusOr<wire::Reseed> make_reseed(std::string hostname) {
  wire::Reseed reseed;
  std::array<std::byte, wire::kMachineIdBytes / 2> id;
  RAMET_RETURN_IF_ERROR(sys::getrandom(reseed.entropy));
  RAMET_RETURN_IF_ERROR(sys::getrandom(reseed.generation));
  RAMET_RETURN_IF_ERROR(sys::getrandom(id));
  // machine-id(5): made like a random UUID, version 4, variant 1.
  id[6] = (id[6] & std::byte{0x0f}) | std::byte{0x40};
  id[8] = (id[8] & std::byte{0x3f}) | std::byte{0x80};
  for (const std::byte byte : id) {
    reseed.machine_id += absl::StrFormat("%02x", std::to_integer<unsigned>(byte));
  }
  reseed.realtime_ns = realtime_ns();
  reseed.hostname = std::move(hostname);
  return reseed;
}

std::string list_processes(const wire::FreezeReply& reply) {
  constexpr size_t kShownProcesses = 8;
  std::vector<std::string> names;
  for (const wire::LiveProcess& process : reply.processes) {
    if (names.size() < kShownProcesses) {
      names.push_back(absl::StrFormat("%s (pid %d)", process.comm, process.pid));
    }
  }
  const size_t more = reply.live_count - names.size();
  return absl::StrJoin(names, ", ") + (more == 0 ? "" : absl::StrFormat(" and %d more", more));
}

Status AgentClient::finish(Status status) {
  over_ = over_ || !status.ok();
  return status;
}

Status AgentClient::start_request() {
  return over_ ? absl::FailedPreconditionError("this conversation with the agent is over")
               : Status();
}

Status AgentClient::post(const wire::Message& message) {
  RAMET_RETURN_IF_ERROR(start_request());
  RAMET_RETURN_IF_ERROR(conversation_.queue(message));
  return finish(conversation_.write_some().status());
}

StatusOr<wire::Message> AgentClient::answer(uint64_t deadline_ns) {
  RAMET_RETURN_IF_ERROR(start_request());
  if (const Status sent = conversation_.flush(deadline_ns); !sent.ok()) {
    return finish(sent);
  }
  auto reply = conversation_.receive(deadline_ns);
  if (!reply.ok()) {
    return finish(reply.status());
  }
  return reply;
}

StatusOr<wire::Message> AgentClient::request(const wire::Message& message, uint64_t deadline_ns) {
  RAMET_RETURN_IF_ERROR(post(message));
  return answer(deadline_ns);
}

StatusOr<AgentInfo> AgentClient::handshake(uint64_t deadline_ns) {
  RAMET_RETURN_IF_ERROR(start_request());
  auto info = conversation_.receive_hello(deadline_ns);
  if (!info.ok()) {
    return finish(annotate(info.status(), "wait for the agent's hello"));
  }
  return info;
}

Status AgentClient::ping(uint64_t deadline_ns) {
  const wire::Ping ping{monotonic_ns()};
  const auto reply = request(ping, deadline_ns);
  if (!reply.ok()) {
    return annotate(reply.status(), "ping the agent");
  }
  const auto* pong = std::get_if<wire::Pong>(&*reply);
  if (pong == nullptr) {
    return finish(annotate(out_of_turn(*reply, "Pong"), "ping the agent"));
  }
  if (pong->token != ping.token) {
    return finish(absl::DataLossError(absl::StrFormat(
        "ping the agent: token %d was sent, %d came back", ping.token, pong->token)));
  }
  return Status();
}

Status AgentClient::reseed(const wire::Reseed& reseed, uint64_t deadline_ns) {
  RAMET_RETURN_IF_ERROR(begin_reseed(reseed));
  return end_reseed(reseed, deadline_ns);
}

Status AgentClient::begin_reseed(const wire::Reseed& reseed) {
  return annotate(post(reseed), "reseed the guest");
}

Status AgentClient::end_reseed(const wire::Reseed& reseed, uint64_t deadline_ns) {
  const auto reply = answer(deadline_ns);
  if (!reply.ok()) {
    return annotate(reply.status(), "reseed the guest");
  }
  const auto* ack = std::get_if<wire::ReseedAck>(&*reply);
  if (ack == nullptr) {
    return finish(annotate(out_of_turn(*reply, "ReseedAck"), "reseed the guest"));
  }
  if (ack->generation != reseed.generation) {
    return finish(absl::DataLossError("reseed the guest: another generation was acknowledged"));
  }
  return Status();
}

StatusOr<wire::FreezeReply> AgentClient::request_freeze(const wire::Message& message,
                                                        const char* doing, uint64_t deadline_ns) {
  auto reply = request(message, deadline_ns);
  if (!reply.ok()) {
    return annotate(reply.status(), doing);
  }
  auto* freeze_reply = std::get_if<wire::FreezeReply>(&*reply);
  if (freeze_reply == nullptr) {
    return finish(annotate(out_of_turn(*reply, "FreezeReply"), doing));
  }
  for (wire::LiveProcess& process : freeze_reply->processes) {
    process.comm = printable(process.comm);
  }
  return std::move(*freeze_reply);
}

StatusOr<wire::FreezeReply> AgentClient::suspend(uint64_t deadline_ns) {
  return request_freeze(wire::Suspend{}, "hold the guest's processes", deadline_ns);
}

Status AgentClient::thaw(uint64_t deadline_ns) {
  const auto reply = request(wire::Thaw{}, deadline_ns);
  if (!reply.ok()) {
    return annotate(reply.status(), "thaw the guest");
  }
  return std::holds_alternative<wire::Thawed>(*reply)
             ? Status()
             : finish(annotate(out_of_turn(*reply, "Thawed"), "thaw the guest"));
}

StatusOr<wire::FreezeReply> AgentClient::freeze(uint64_t deadline_ns) {
  RAMET_ASSIGN_OR_RETURN(auto reply,
                         request_freeze(wire::Freeze{}, "freeze the guest", deadline_ns));
  if (reply.live_count == 0) {
    over_ = true;
    // The agent closes as its last act: after the end it does nothing until its reseed.
    const auto end = conversation_.receive(deadline_ns);
    if (end.status().code() != absl::StatusCode::kUnavailable) {
      return annotate(end.ok() ? out_of_turn(*end, "the end of the connection") : end.status(),
                      "freeze the guest");
    }
  }
  return reply;
}

Status AgentClient::poweroff(uint64_t deadline_ns) {
  RAMET_RETURN_IF_ERROR(start_request());
  over_ = true;
  RAMET_RETURN_IF_ERROR(conversation_.queue(wire::Poweroff{}));
  return annotate(conversation_.flush(deadline_ns), "power off the guest");
}

StatusOr<ExecOutcome> AgentClient::exec(const ExecSpec& spec) {
  RAMET_RETURN_IF_ERROR(start_request());
  ExecSession session(conversation_, spec);
  if (const Status status = session.start(); !status.ok()) {
    return annotate(status, "exec");  // refused by our own limits: nothing was sent
  }
  over_ = true;
  auto outcome = session.run();
  if (!outcome.ok()) {
    return annotate(outcome.status(), "exec");
  }
  return outcome;
}

}  // namespace ramet
