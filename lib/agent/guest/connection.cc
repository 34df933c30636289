#include "lib/agent/guest/connection.h"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace ramet::guest {

Connection::~Connection() { die(); }

void Connection::start(const wire::Hello& hello) {
  if (!watch_.start(loop_, socket_.get(), EPOLLIN,
                    [this](uint32_t events) { on_events(events); })) {
    die();
    return;
  }
  if (const auto frame = wire::encode(hello); frame.ok()) {
    queue_frame(frame.value());
  }
}

void Connection::die() {
  if (command_ != nullptr) {
    command_->abandon();
    command_ = nullptr;
  }
  watch_.stop();
  socket_.reset();
  dead_ = true;
}

void Connection::on_events(uint32_t events) {
  if ((events & EPOLLOUT) != 0) {
    flush();
  }
  if (!dead_ && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
    read_input();
  }
}

void Connection::read_input() {
  std::array<std::byte, 16 * 1024> buffer;
  const ssize_t size = ::recv(socket_.get(), buffer.data(), buffer.size(), 0);
  if (size < 0 && (errno == EAGAIN || errno == EINTR)) {
    return;
  }
  if (size <= 0) {  // ended or reset: nobody waits for the command any more
    die();
    return;
  }
  feed(std::span<const std::byte>(buffer).first(static_cast<size_t>(size)));
  // What a command has to say takes the Hello along.
  if (!dead_ && command_ == nullptr) {
    flush();
  }
}

void Connection::feed(std::span<const std::byte> bytes) {
  while (!bytes.empty() && !dead_ && !closing_) {
    bytes = bytes.subspan(reader_.feed(bytes));
    if (reader_.error()) {
      refuse(wire::ErrorCode::kProtocol, std::string(reader_.error()->what));
      return;
    }
    if (!reader_.complete()) {
      continue;
    }
    const auto message = reader_.message();
    reader_.next();
    if (!message.ok()) {
      refuse(wire::ErrorCode::kProtocol, std::string(message.error()));
      return;
    }
    on_message(message.value());
  }
}

void Connection::on_message(const wire::Message& message) {
  if (!hello_seen_) {
    const auto* hello = std::get_if<wire::Hello>(&message);
    if (hello == nullptr) {
      refuse(wire::ErrorCode::kProtocol, "the first message is no Hello");
    } else if (hello->version != wire::kProtocolVersion) {
      refuse(wire::ErrorCode::kVersion,
             "the agent speaks version " + std::to_string(wire::kProtocolVersion));
    }
    hello_seen_ = true;
    return;
  }
  if (command_ != nullptr) {
    on_command_message(message);
  } else if (!handler_.serves(message)) {
    refuse(wire::ErrorCode::kNotReseeded, "the guest is frozen and was not reseeded");
  } else if (const auto* request = std::get_if<wire::ExecRequest>(&message)) {
    command_ = handler_.start_command(*this, *request);
    if (command_ != nullptr && command_->finished()) {
      on_command_finished();
    }
  } else {
    handler_.control(*this, message);
  }
}

void Connection::on_command_message(const wire::Message& message) {
  bool ok = false;
  if (const auto* data = std::get_if<wire::Stdin>(&message)) {
    ok = command_->on_stdin(data->data);
  } else if (std::holds_alternative<wire::StdinEof>(message)) {
    ok = command_->on_stdin_eof();
  } else if (const auto* signal = std::get_if<wire::Signal>(&message)) {
    command_->on_signal(signal->number);
    ok = true;
  }
  if (!ok) {
    refuse(wire::ErrorCode::kProtocol, "a message that has no place while a command runs");
  }
}

void Connection::on_command_finished() {
  command_ = nullptr;
  close_after_flush();
}

void Connection::close_after_flush() {
  closing_ = true;
  flush();
}

void Connection::refuse(wire::ErrorCode code, const std::string& text) {
  if (command_ != nullptr) {
    command_->abandon();
    command_ = nullptr;
  }
  send(wire::Error{code, text.substr(0, wire::kMaxTextBytes)});
  close_after_flush();
}

void Connection::send(const wire::Message& message) {
  const auto frame = wire::encode(message);
  if (frame.ok()) {
    send_frame(frame.value());
  }
}

void Connection::send_frame(std::span<const std::byte> frame) {
  if (dead_ || closing_) {
    return;
  }
  queue_frame(frame);
  flush();
}

void Connection::queue_frame(std::span<const std::byte> frame) {
  outbox_.insert(outbox_.end(), frame.begin(), frame.end());
}

void Connection::flush() {
  const bool was_full = full();
  while (outbox_used_ < outbox_.size()) {
    const ssize_t size = ::send(socket_.get(), outbox_.data() + outbox_used_,
                                outbox_.size() - outbox_used_, MSG_NOSIGNAL);
    if (size < 0 && errno == EINTR) {
      continue;
    }
    if (size < 0 && errno == EAGAIN) {
      break;
    }
    if (size < 0) {
      die();
      return;
    }
    outbox_used_ += static_cast<size_t>(size);
  }
  if (outbox_used_ == outbox_.size()) {
    outbox_.clear();
    outbox_used_ = 0;
    if (closing_) {
      die();
      return;
    }
  } else if (outbox_used_ > kOutboxBytes) {
    outbox_.erase(outbox_.begin(), outbox_.begin() + static_cast<std::ptrdiff_t>(outbox_used_));
    outbox_used_ = 0;
  }
  update_events();
  if (was_full && !full() && command_ != nullptr) {
    command_->on_outlet_space();
  }
}

// A host that does not read its answers is not read either; but with a command running its Signal
// must get through, and the stdin window bounds what else it can send.
void Connection::update_events() {
  const bool reads = !closing_ && (command_ != nullptr || !full());
  const bool writes = outbox_used_ < outbox_.size();
  watch_.set_events((reads ? static_cast<uint32_t>(EPOLLIN) : 0U) |
                    (writes ? static_cast<uint32_t>(EPOLLOUT) : 0U));
}

}  // namespace ramet::guest
