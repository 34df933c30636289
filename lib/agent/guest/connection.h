// Connection: one connection from the host: frames in, frames out, and at most one command.
//
// Thread rule: one thread, that of the Loop.
// Invariant: a connection that broke the protocol, or whose peer went away, is dead() and its
// command killed; the server deletes it. Held: one incoming frame, and kOutboxBytes of outgoing
// ones plus what one read of the command adds.
#ifndef RAMET_LIB_AGENT_GUEST_CONNECTION_H_
#define RAMET_LIB_AGENT_GUEST_CONNECTION_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "lib/agent/guest/command.h"
#include "lib/agent/guest/loop.h"
#include "lib/agent/wire.h"
#include "vmm/base/unique_fd.h"

namespace ramet::guest {

inline constexpr size_t kOutboxBytes = 128 * 1024;

class Connection;

// What a connection asks of the server.
class RequestHandler {
 public:
  virtual ~RequestHandler() = default;
  // Starts a command for `connection`; null when refused (an Error was sent).
  virtual Command* start_command(Connection& connection, const wire::ExecRequest& request) = 0;
  // Reseed, Freeze, Ping, Poweroff: answers through `connection`.
  virtual void control(Connection& connection, const wire::Message& message) = 0;
  // The frozen server takes Reseed only.
  virtual bool serves(const wire::Message& message) const = 0;
};

class Connection final : public Outlet {
 public:
  // `handler` and `loop` outlive the connection.
  Connection(Loop& loop, RequestHandler& handler, UniqueFd socket)
      : loop_(loop), handler_(handler), socket_(std::move(socket)) {}
  ~Connection() override;

  // Starts to serve; our Hello goes out first, but not before there is something to go with it.
  void start(const wire::Hello& hello);
  // Serves what the host has sent so far.
  void read_input();

  void send(const wire::Message& message);
  // Sends the error and closes after it.
  void refuse(wire::ErrorCode code, const std::string& text);
  // Closes once all is written.
  void close_after_flush();
  // Closes now; its command is killed.
  void close() { die(); }
  // The command finished: its Exit is in the outbox.
  void on_command_finished();

  void send_frame(std::span<const std::byte> frame) override;
  bool full() const override { return outbox_.size() - outbox_used_ >= kOutboxBytes; }

  bool dead() const { return dead_; }

 private:
  void on_events(uint32_t events);
  void feed(std::span<const std::byte> bytes);
  void on_message(const wire::Message& message);
  void on_command_message(const wire::Message& message);
  void queue_frame(std::span<const std::byte> frame);
  void flush();
  void update_events();
  void die();

  Loop& loop_;
  RequestHandler& handler_;
  UniqueFd socket_;
  Watch watch_;
  wire::FrameReader reader_;
  std::vector<std::byte> outbox_;
  size_t outbox_used_ = 0;
  Command* command_ = nullptr;  // owned by the server
  bool hello_seen_ = false;
  bool closing_ = false;
  bool dead_ = false;
};

}  // namespace ramet::guest

#endif  // RAMET_LIB_AGENT_GUEST_CONNECTION_H_
