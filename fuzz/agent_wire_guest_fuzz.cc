// The agent's side of the wire: the host sends these bytes to a connection of the agent over a
// socket pair. No command is started and no machine touched: the handler here answers as the server
// does, but for the fork. Whatever comes, the connection lives on or is dead, and all that it says
// is well-formed messages.
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "lib/agent/guest/connection.h"
#include "lib/agent/guest/loop.h"
#include "lib/agent/wire.h"

namespace {

namespace wire = ramet::wire;
namespace guest = ramet::guest;

void require(bool condition) {
  if (!condition) {
    __builtin_trap();
  }
}

// Each request it is given encodes: what the agent acts on is within the limits.
class Handler final : public guest::RequestHandler {
 public:
  explicit Handler(bool frozen) : frozen_(frozen) {}
  guest::Command* start_command(guest::Connection& connection,
                                const wire::ExecRequest& request) override {
    require(wire::encode(request).ok());
    require(!request.argv.empty() && !request.argv[0].empty());
    connection.refuse(wire::ErrorCode::kBusy, "no commands here");
    return nullptr;
  }
  void control(guest::Connection& connection, const wire::Message& message) override {
    require(wire::encode(message).ok());
    require(serves(message));
    if (const auto* ping = std::get_if<wire::Ping>(&message)) {
      connection.send(wire::Pong{ping->token});
    } else if (const auto* reseed = std::get_if<wire::Reseed>(&message)) {
      frozen_ = false;
      connection.send(wire::ReseedAck{reseed->generation});
    } else if (std::holds_alternative<wire::Suspend>(message)) {
      connection.send(wire::FreezeReply{});
    } else if (std::holds_alternative<wire::Thaw>(message)) {
      connection.send(wire::Thawed{});
    } else {
      connection.refuse(wire::ErrorCode::kProtocol, "a message that is no request");
    }
  }
  bool serves(const wire::Message& message) const override {
    return !frozen_ || std::holds_alternative<wire::Reseed>(message);
  }

 private:
  bool frozen_;
};

// Reads what the agent said, without waiting, and checks that it is messages.
void check_answers(int fd, wire::FrameReader& reader) {
  std::array<std::byte, 16 * 1024> buffer;
  while (true) {
    const ssize_t size = ::recv(fd, buffer.data(), buffer.size(), MSG_DONTWAIT);
    if (size <= 0) {
      return;
    }
    auto rest = std::span<const std::byte>(buffer).first(static_cast<size_t>(size));
    while (!rest.empty()) {
      rest = rest.subspan(reader.feed(rest));
      require(!reader.error().has_value());
      if (reader.complete()) {
        require(reader.message().ok());
        reader.next();
      }
    }
  }
}

}  // namespace

// Bit 0 of the first byte: the guest is frozen. The rest is what the host sends.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::array<int, 2> fds = {-1, -1};
  if (size == 0 ||
      ::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds.data()) != 0) {
    return 0;
  }
  const ramet::UniqueFd host(fds[1]);
  guest::Loop loop;
  require(loop.open());
  Handler handler((data[0] & 1) != 0);
  wire::FrameReader answers;
  {
    guest::Connection connection(loop, handler, ramet::UniqueFd(fds[0]));
    connection.start({wire::kProtocolVersion, "release", "build"});
    auto rest = std::as_bytes(std::span(data + 1, size - 1));
    while (!rest.empty() && !connection.dead()) {
      const ssize_t sent = ::send(host.get(), rest.data(), rest.size(), MSG_NOSIGNAL);
      require(loop.run_once(1));
      check_answers(host.get(), answers);
      if (sent > 0) {
        rest = rest.subspan(static_cast<size_t>(sent));
      } else if (connection.dead()) {
        break;
      }
    }
    for (int i = 0; i < 8 && !connection.dead(); ++i) {
      require(loop.run_once(1));
    }
  }
  check_answers(host.get(), answers);
  require(answers.empty());
  return 0;
}
