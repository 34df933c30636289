#include "lib/agent/guest/command.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "lib/agent/guest/accounts.h"
#include "lib/agent/guest/kernel.h"
#include "lib/agent/guest/log.h"
#include "lib/agent/guest/spawn.h"

namespace ramet::guest {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;
// Credit is given back in pieces of this size, and when all input was taken.
constexpr size_t kCreditStep = wire::kStdinWindowBytes / 4;

enum ChildEnd : size_t { kChildStdin, kChildStdout, kChildStderr, kChildReport };

// `ours` does not block; the other end does, as programs expect.
bool make_pipe(UniqueFd& read_end, UniqueFd& write_end, bool read_is_ours) {
  std::array<int, 2> fds = {-1, -1};
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) {
    return false;
  }
  read_end = UniqueFd(fds[0]);
  write_end = UniqueFd(fds[1]);
  return ::fcntl(fds[read_is_ours ? 0 : 1], F_SETFL, O_NONBLOCK) == 0;
}

}  // namespace

void Command::send(const wire::Message& message) {
  const auto frame = wire::encode(message);
  if (outlet_ != nullptr && frame.ok()) {
    outlet_->send_frame(frame.value());
  }
}

void Command::fail_start(int error, const std::string& text) {
  send(wire::Exit{wire::Exit::Kind::kFailedToStart, error, false,
                  text.substr(0, wire::kMaxTextBytes)});
  finished_ = true;
}

bool Command::open_pipes(const wire::ExecRequest& request, std::array<UniqueFd, 4>& child_ends) {
  if (request.has_stdin) {
    if (!make_pipe(child_ends[kChildStdin], stdin_, false)) {
      return false;
    }
  } else {
    child_ends[kChildStdin] = UniqueFd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    if (!child_ends[kChildStdin].valid()) {
      return false;
    }
  }
  return make_pipe(outputs_[0].fd, child_ends[kChildStdout], true) &&
         make_pipe(outputs_[1].fd, child_ends[kChildStderr], true) &&
         make_pipe(report_, child_ends[kChildReport], true);
}

void Command::start(const wire::ExecRequest& request, const std::string& etc) {
  const auto credentials = resolve_user(request.user, etc);
  if (!credentials) {
    fail_start(ENOENT, "user '" + request.user.name + "' is not in " + etc + "/passwd");
    return;
  }
  std::array<UniqueFd, 4> child_ends;
  if (!open_pipes(request, child_ends)) {
    const int error = errno;
    fail_start(error, errno_text("make its pipes", error));
    return;
  }
  const UniqueFd cgroup_fd = cgroup_.open_folder();
  pid_ =
      spawn({request, *credentials, child_ends[kChildStdin].get(), child_ends[kChildStdout].get(),
             child_ends[kChildStderr].get(), child_ends[kChildReport].get(), cgroup_fd.get()});
  if (pid_ < 0) {
    const int error = errno;
    fail_start(error, errno_text("make its process", error));
    return;
  }
  if (request.timeout_ms != 0) {
    timeout_at_ns_ = now_ns() + request.timeout_ms * kNsPerMs;
  }
  stdin_offered_ = request.has_stdin;
  stdin_accepting_ = request.has_stdin;
  watch_pipes();
}

void Command::watch_pipes() {
  for (Output& output : outputs_) {
    output.watch.start(loop_, output.fd.get(), EPOLLIN,
                       [this, &output](uint32_t) { read_output(output); });
  }
  if (stdin_.valid()) {
    // No events yet: only an error (the reader is gone) is reported.
    stdin_watch_.start(loop_, stdin_.get(), EPOLLERR, [this](uint32_t events) {
      if ((events & EPOLLERR) != 0) {
        close_stdin();
      } else {
        write_stdin();
      }
    });
  }
}

void Command::read_output(Output& output) {
  std::array<std::byte, wire::kHeaderBytes + wire::kMaxDataBytes> frame;
  const size_t limit = std::min(wire::kMaxDataBytes, output.rest.value_or(wire::kMaxDataBytes));
  const ssize_t size = ::read(output.fd.get(), frame.data() + wire::kHeaderBytes, limit);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (size <= 0) {
    close_output(output);
    finish_if_done();
    return;
  }
  const auto count = static_cast<size_t>(size);
  std::ranges::copy(wire::encode_header({static_cast<uint32_t>(count), output.type}),
                    frame.begin());
  outlet_->send_frame(std::span<const std::byte>(frame).first(wire::kHeaderBytes + count));
  if (output.rest) {
    *output.rest -= count;
    if (*output.rest == 0) {
      close_output(output);
      finish_if_done();
      return;
    }
  }
  if (outlet_ != nullptr && outlet_->full()) {
    for (Output& each : outputs_) {
      each.watch.set_events(0);
    }
  }
}

void Command::on_outlet_space() {
  for (Output& output : outputs_) {
    output.watch.set_events(EPOLLIN);
  }
}

void Command::close_output(Output& output) {
  output.watch.stop();
  output.fd.reset();
}

bool Command::on_stdin(std::span<const std::byte> data) {
  if (!stdin_offered_ || stdin_eof_ || data.size() > window_) {
    return false;
  }
  window_ -= data.size();
  if (!stdin_accepting_) {  // the command closed its input: take and forget what was on its way
    credit_ += data.size();
    give_credit(true);
    return true;
  }
  stdin_pending_.insert(stdin_pending_.end(), data.begin(), data.end());
  write_stdin();
  return true;
}

bool Command::on_stdin_eof() {
  if (!stdin_offered_ || stdin_eof_) {
    return false;
  }
  stdin_eof_ = true;
  write_stdin();
  return true;
}

void Command::write_stdin() {
  if (!stdin_.valid()) {
    return;
  }
  size_t done = 0;
  bool broken = false;
  while (done < stdin_pending_.size()) {
    const ssize_t size =
        ::write(stdin_.get(), stdin_pending_.data() + done, stdin_pending_.size() - done);
    if (size < 0 && errno == EINTR) {
      continue;
    }
    if (size < 0) {
      broken = errno != EAGAIN;
      break;
    }
    done += static_cast<size_t>(size);
  }
  stdin_pending_.erase(stdin_pending_.begin(),
                       stdin_pending_.begin() + static_cast<std::ptrdiff_t>(done));
  credit_ += done;
  if (broken) {
    close_stdin();
  } else if (stdin_pending_.empty() && stdin_eof_) {
    stdin_watch_.stop();
    stdin_.reset();
  } else {
    give_credit(false);
    stdin_watch_.set_events(stdin_pending_.empty() ? EPOLLERR : EPOLLOUT | EPOLLERR);
  }
}

// The command reads no more.
void Command::close_stdin() {
  stdin_watch_.stop();
  stdin_.reset();
  credit_ += stdin_pending_.size();
  stdin_pending_.clear();
  const bool was_accepting = stdin_accepting_;
  stdin_accepting_ = false;
  if (was_accepting && !stdin_eof_) {
    give_credit(true);
  }
}

void Command::give_credit(bool closed) {
  if (closed || (credit_ > 0 && (credit_ >= kCreditStep || stdin_pending_.empty()))) {
    window_ += credit_;
    send(wire::StdinCredit{static_cast<uint32_t>(credit_), closed});
    credit_ = 0;
  }
}

void Command::on_signal(int number) {
  if (pid_ <= 0 || wait_status_) {
    return;
  }
  if (number == SIGKILL) {
    kill_all();
  } else {
    ::kill(-pid_, number);
  }
}

void Command::kill_all() {
  const bool by_cgroup = cgroup_.kill();
  if (pid_ <= 0) {
    return;
  }
  if (!wait_status_) {
    // Before the child's setsid() its group does not exist yet: then the process itself is meant.
    if (::kill(-pid_, SIGKILL) != 0) {
      ::kill(pid_, SIGKILL);
    }
  } else if (!by_cgroup) {
    ::kill(-pid_, SIGKILL);  // descendants that stayed in the group of the reaped leader
  }
}

void Command::abandon() {
  outlet_ = nullptr;
  for (Output& output : outputs_) {
    close_output(output);
  }
  stdin_watch_.stop();
  stdin_.reset();
  if (!finished_) {
    kill_all();
  }
  finish_if_done();
}

void Command::on_exited(int wait_status) {
  wait_status_ = wait_status;
  stdin_watch_.stop();
  stdin_.reset();
  drain_until_ns_ = now_ns() + kDrainNs;
  finish_if_done();
}

void Command::on_clock(uint64_t now) {
  if (timeout_at_ns_ != 0 && now >= timeout_at_ns_) {
    timeout_at_ns_ = 0;
    if (!wait_status_) {
      timed_out_ = true;
      kill_all();
    }
  }
  if (drain_until_ns_ != 0 && now >= drain_until_ns_) {
    drain_until_ns_ = 0;
    end_drain();
  }
}

void Command::end_drain() {
  for (Output& output : outputs_) {
    if (!output.fd.valid()) {
      continue;
    }
    output.rest = readable_bytes(output.fd.get());
    if (*output.rest == 0) {
      close_output(output);
    }
  }
  finish_if_done();
}

uint64_t Command::next_deadline_ns() const {
  if (timeout_at_ns_ == 0 || drain_until_ns_ == 0) {
    return std::max(timeout_at_ns_, drain_until_ns_);
  }
  return std::min(timeout_at_ns_, drain_until_ns_);
}

wire::Exit Command::exit_message() {
  StartFailure failure;
  if (::read(report_.get(), &failure, sizeof(failure)) == sizeof(failure)) {
    return {wire::Exit::Kind::kFailedToStart, std::max(failure.error, 1), false,
            step_text(failure.step)};
  }
  if (WIFSIGNALED(*wait_status_)) {
    return {wire::Exit::Kind::kSignalled, WTERMSIG(*wait_status_), timed_out_, ""};
  }
  return {wire::Exit::Kind::kExited, WEXITSTATUS(*wait_status_), timed_out_, ""};
}

void Command::finish_if_done() {
  if (finished_ || !wait_status_ || outputs_[0].fd.valid() || outputs_[1].fd.valid()) {
    return;
  }
  finished_ = true;
  drain_until_ns_ = 0;
  timeout_at_ns_ = 0;
  send(exit_message());
}

}  // namespace ramet::guest
